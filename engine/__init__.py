"""endocurate: endoscopy video in, a small training set that pre-trains better out. The map, in reading order.

contracts
    schema       the tables as Arrow schemas; every batch of a stage is checked
    precision    the words of a precision, and which are kept
    models       the knobs of the models and of their training, and what a section of knobs is
    settings     the knobs of what stands around the flow: store, upkeep, watch, lookup, output, browse, export, plan, transfer, benchmark,
                 study, theory, tracking, report
    methods      the knobs of single methods of selection
    config       every knob of the flow, in its order
    knobs        lists, changes and refuses knobs by name
    theory       the equations the claims rest on: NormDEL, and the perceptron that learns from what pruning left
front of the flow
    videos       finds sources and names them by their bytes
    listing      what lies below an address, as a stream
    growth       what of a folder of images that grew is new
    inbox        what is new in a folder, and has come to rest
    files        local paths and addresses, and what their file systems raise
    pictures     what a picture, a mask and a box are, and one JPEG codec for all
    clip         an open container, its best stream, and what is wrong with it
    dicom        DICOM endoscopy objects: the film or the pictures in them, and no word of the patient
    decode       the moments of a video, upright and exact in time
    content      the endoscope's picture inside the frame
    text         burnt-in text, found by a detector
    gate         which frames are worth keeping
    appearance   what a patch shows: contrast, black, glare, what is no mucosa
    frames       decodes, samples, cuts, blacks out and gates
    devices      what models run on here, and the memory and energy that a training takes
    inference    how models run that are not trained: no gradients, one thread, what precision
    products     matrix products as a CPU makes them fastest, in training too
    heap         memory that stays with the process when it is freed
    packing      models as a CPU runs them fastest
    room         as many items at a time as the GPU has room for
    outlines     the mask of a patch as run lengths, as COCO packs them
    proposals    what a proposer says, and two that need no weights
    sam          region proposers with trained weights: SAM's automatic masks and LiteMedSAM, quickened
    patches      cuts regions out of frames
    vits         the sizes of vision transformers, as timm has them
    mae          the masked autoencoder, with the paper's words
    simclr       the contrastive model, with the paper's words, and the bank that it scores against
    views        two random views of a picture, as SimCLR compares them: crop, flip, colours, grey, blur
    weights      checkpoint files of three origins
    difficulty   scores how hard a patch is to rebuild, or to tell from others
    features     embeddings by models that were not made to score
store
    ledger       what a micro-batch came to, per frame and per video
    store        the Lance tables: patches, frames, videos, selections, images, and what jobs keep beside them
    sql          SQL over tables, read-only
    refusals     what a person asked for and cannot have
    plain        values of a table as JSON can hold them
    explain      from whatever has an id back to its cause and on to its use
choosing and training
    rows         rows by number: the key of each, a hash of its patch's id, and their orders
    pool         what a method of selection may look at: columns, embeddings as a stream, and what an earlier choice found out
    clusters     k-means over a stream of embeddings, and what is alike inside a cluster
    sketches     short stand-ins of embeddings, by which most of what is not alike is left out
    selection    ranks patches and cuts at the budget
    drift        whether new video is like what came before: distances, and thresholds by resampling videos
    judge        a selection without training: coverage, variety, artefacts, duplicates, and what a model could learn
    synthesis    patches become training images
    rebuild      training images made again from their rows, and compared
    shards       training images as files for other trainers: a folder, or tar shards
    loader       training images in order, read and decoded ahead
    objectives   what the masked autoencoder and SimCLR do with a batch in training
    optimiser    AdamW, its rate, and the mean of weights
    checkpoints  what of a training is saved and restored
    memory       the memory that there is, of the machine or its container
    footprint    what a training needs of memory, told before it is taken
    pretrain     the training loop
    cards        a trained encoder for others: timm's names, and a card that says what it is
    datasets     images and their truth: known sets, folders and COCO files, split without leaks
    leaks        near-duplicates between what is trained on and what is tested on
    segmenters   DPT, U-Net and attention U-Net around an encoder
    losses       what a segmenter is trained to make small
    finetune     trains a segmenter by a recipe
    geometry     features without labels: distances, directions, ranks, and scores of that
    probes       features with labels: linear probe, neighbours, LogME, LEEP, H-score
    transfer     robustness, and its baselines, by name
    targets      target images in two views, and what an encoder makes of them
    monitor      looks at an encoder in training, and says when it has been enough
    ranks        models of a training that several readings judge at once; readings that are lost
    scores       mIoU, Dice and the like from counts of pixels, HD95 from outlines, and their intervals
    evaluate     fine-tunes a segmenter and measures it
    released     scores that others released of pre-training at many lengths
    stopping     rules of when to stop pre-training, and what a choice by them is worth
    frontier     the least regret that any rule could reach for so many epochs
    aggregates   many curves of robustness heard as one
    foresight    our rule: how long to pre-train, learnt on other data sets
    options      tables of the cheapest length, or patience, in like cases on other data sets
around
    flow         runs steps here or on Ray, tasks that wait for each other, and loops on Ray Train
    backoff      how long to wait before what failed is tried again
    metrics      what a job counts and measures, for Prometheus
    plan         from measured times to pool sizes, frames a second, the bottleneck and the cost
    queues       how long trainings take on so many devices
    fleet        the nodes that a plan takes, and a simulation of the pipeline on 1 to 1,000 GPUs
    tracking     MLflow runs, written to also while the server is lost
    charts       the report's charts as numbers
    entries      results of a matrix side by side, those that failed, and what may flatter them
    standings    what a matrix came to: methods at equal budget, over seeds and images, and what told so before
    verdicts     who is ahead over all budgets, sets and seeds together, and what chance could have done
    published    what the papers report, to stand beside
    boards       a matrix's tables and curves as numbers
    trails       when a pre-training could have ended: what every rule of when to stop came to
    repeats      pre-trainings that differ by their seed alone: what every rule came to over them
    tradeoffs    what rules of when to stop keep for the epochs that they take, as a picture
    pruning      the theory's figures as numbers, and what it says of a choice
    followed     what followed the batches of a watcher, as numbers for the page
    outcomes     what evaluations came to side by side
    report       one HTML page of it all
    browser      a local web page to look into a store
    mucosa       textures of the simulated wall
    colon        the simulated tunnel and its polyps
    endoscope    what the simulated instrument adds: panel, text, blur, glare
    clutter      what is in the way of the simulated wall: instrument, inset, glints, smoke
    encode       pictures as a video whose bytes repeat
    simulate     colonoscopy-like video with exact truth
"""

import os

# MLflow, Ray and Hugging Face's hub tell their makers of their use unless told not to before they are imported: here are videos of patients
# at work, and nothing is sent where nobody asked for it.
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

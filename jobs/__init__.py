"""The jobs. `python -m jobs NAME` runs one: JOBS in __main__ has a line for each, NAME is its file here, and what it does is its `run`.

Every other file is a part of jobs. The map of the parts, by the jobs that use them without another job between:

all: the command line
    __main__    reads the words, refuses what is wrong, starts the job
    endocurate  the same by the name of its command
    recipes     whole configurations, pre-trainings and evaluations by name
    documents   configurations as YAML files
    matrix      a YAML file of the job benchmark as a list of cells
    layers      what its parts change, and may not
    places      what a job needs to find before it begins
    quiet       what a process of a job says, and what its libraries do not
    troubles    what a person can mend, told from what is a bug
many: six jobs or more
    output      rows as a table, JSON lines or Parquet
    named       selections by their id, and which of them was asked for
    choices     by which settings choices were made, and how they were judged
    needs       processors and GPUs that a job does not begin without
ingest, plan, probe, watch
    own         what this engine keeps below videos.uri, which is no video
    found       what there is to take in, without what a test set holds
    news        the words that go over the line of a watcher, and what meters make of them
    spelling    names of files as others may write them, which no log may show
ingest, plan, benchmark, watch
    pools       the pools of an ingest by the times that `plan` measured
probe
    sampling    an even draw of frames
probe, pretrain, forget
    training    one training run, here or on Ray Train
probe, pretrain, transfer, forget
    looks       what a pre-training is watched by
    kept        the models of its looks: which stay, and which one others get
transfer
    readings    what target images say of these models, each asked once
choose
    thrift      what of the work of a choice an earlier one had done
choose, benchmark
    throughput  images a second in pre-training, for budgets in hours
choose, alike, drift, worth
    judging     what a selection is worth before anything is trained on it
evaluate, benchmark
    twins       what training images have in common with those that are tested on
benchmark
    cells       what a cell is made of: a choice, a pre-training, a measurement
    costs       what a matrix will still take
benchmark, report
    matrices    the matrices that were run, as boards
report
    variants    one method by several settings, told apart
    findings    what evaluations came to, who is ahead of whom, and what theory says
transfer-study
    oracles     the least regret that any rule of a kind can reach
    tradeoff    the curves of its picture
    uses        what encoder and use tell of when to stop
submit
    pods        addresses that pods cannot reach
worth
    retrain     pre-training on one selection, here or on a cluster
drift
    measured    what it knows of every video
selections
    outdated    which of those that were kept current go
watch, the process that sees to the work
    health      how the watcher is, for who asks over HTTP
    line        to the process that works, which it ends and starts again
watch, the process that works
    rounds      what it needs before it begins
    watcher     its rounds: look, take in, rest
    underway    what it is trying
    absence     what may be found away: store, MLflow, disk, inbox
    shortage    nodes that its pools wait for
    latency     how long what arrives took
    after       what follows a batch
    setbacks    what of that fails
    standing    how it stands with drift and with training again, for the page of health
watch, processes beside that one
    aside       one at a time, for what takes hours
    upkeep      upkeep of the store, in one
no job
    fleet       `python -m jobs.fleet`: the tables of cluster/README.md
"""

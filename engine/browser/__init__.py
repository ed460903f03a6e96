"""A local web page to look into a store: what was kept, why, and where it is from. Only home of `starlette` and `uvicorn`.

server     serves the page, which is plain HTML, CSS and JavaScript in `page`
guard      who may look
answers    what is behind each address
asking     reads what a page asks for
sheets     the columns of a table at one version
cells      values as a page can read them
questions  SQL, in processes of its own
looks      views of them, in an order that is made once
thumbs     the pictures of a view
footage    the frame and the seconds around it, as the store would keep them
imagined   what the scorer rebuilds
overlay    the mask of a region
plane      a map of the embeddings
stories    videos and selections
exports    a view for other programs
writes     keeps tags and selections
"""

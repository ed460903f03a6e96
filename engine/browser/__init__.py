"""A local web page to look into a store: what was kept, why, and where it is from. Only home of `starlette` and `uvicorn`.

`asking` reads what a page asks for, `sheets` hold the columns of a table at one version, `looks` make views of them, in an order that is
made once, `thumbs` their pictures, `footage` shows the frame and the seconds around it as the store would keep them, `imagined` what the
scorer rebuilds, `overlay` the mask of a region, `plane` a map of the embeddings, `stories` videos and selections, `exports` a view for
other programs, `writes` keeps tags and selections, `guard` says who may look, `answers` put all that behind addresses and `server` serves
it. The page itself is plain HTML, CSS and JavaScript in `page`.
"""

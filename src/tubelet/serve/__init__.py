"""Browse and search an output folder in a local web page: `tubelet serve OUT`.

guard.py      who may ask: Host, token, cross-site requests, headers of every answer
catalog.py    the videos of a folder, read lazily, by opaque keys
sources.py    a video's own file, if it still is the one that was extracted
ranges.py     a part of a file over HTTP
children.py   processes that can be killed: previews and the extraction of uploads
app.py        the routes; `static/` is the page, as written, without a build step
"""

"""Live separation: raw audio between pipes, and a page in the browser that shows and plays mixture and voices as they come.

``server`` gives the page to a browser on this machine and separates what it sends; ``web`` writes the same page as static files,
which run the model in the browser itself. The page, in ``page/``, is plain JavaScript.
"""

"""The geometry of the page's drawings. A template draws what is described here; nothing here knows of a browser.

Drawings are 400 units wide: their text is about as large on a phone, where they fill the screen, as on a desk, where
two stand side by side.
"""

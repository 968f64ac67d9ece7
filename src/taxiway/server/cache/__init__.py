"""Answers kept for requests that come again, and one run for those that come at once.

In: validated requests of one version; the batcher behind.
Out: CacheFront, which stands before the batcher; AnswerStore, one for all versions.
Never: reading requests, wording answers, choosing which version is cached.
Read: key.py (what makes requests the same), store.py and shelf.py (what is kept), then front.py (the shell).
"""

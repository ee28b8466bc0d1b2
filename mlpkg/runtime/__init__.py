"""The scoring server that ships in the image: Azure's contract over a small HTTP front and worker processes.

It imports nothing else of mlpkg, runs on Python 3.9 and newer, and keeps two kinds of process apart:
the *front* (`server`) speaks HTTP and never runs user code; each *worker* runs the entry script in its
main thread and speaks only to the front, over one socket pair (`frames`).
"""

"""What is spoken on the socket: HTTP/1.1 framing, and the protocols' own words for requests and answers.

In: bytes.
Out: `InferRequest` to the batcher; bytes.
Never: running models, deciding what runs together.
Read: http1.py (framing), heads.py, oip.py, oip_requests.py, oip_answers.py, then api.py for every route.
"""

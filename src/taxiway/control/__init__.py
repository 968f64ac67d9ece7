"""The control process: the HTTP API of rollouts, and the judge; wires stores and controllers.

In: commands and questions over HTTP; the supervisor's channel to the data plane.
Out: the same commands for everybody, each answered with what became of it; verdicts for other tools.
Never: business rules, which are those of the rooms below; the way of a request.
Read: app.py, then process.py.
"""

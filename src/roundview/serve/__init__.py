"""`roundview serve`: an HTTP API, a queue of jobs that outlives the server, and a web page.

The server itself decodes no picture and loads no model. Each job is `roundview make` in a process
of its own (`workers`, `child`); pictures are checked, cut out and converted in another (`helper`,
`chores`). So whatever a photograph does to a decoder, it does it to one job.
"""

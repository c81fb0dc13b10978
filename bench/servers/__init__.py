"""The servers that the generator of `bench/load` calls, each a process of its own.

They speak one protocol: arguments say what to do, one line of JSON on stdout says `{"offer": URL}` once the server
listens, and the URL takes `{"sdp", "type"}` by POST and answers the same. A server runs until it is terminated.
"""

"""A fleet in virtual time: the real federation controllers over a memory store, with modelled members.

One seed decides everything: what users do, which member stops, which link is cut or slow, how long each pod takes, every
generated name. A day passes in the time that its work takes, and a history that breaks a rule is replayed by its seed:

    python -m federation.simulator --seed 1234 --verbose

What is real: controllers, planners, API server (registry, admission, watch cache, in-process client), informers, queues.
What is modelled: members (their agent and their pods), links, users. What is left out: sockets, TLS, the database, two
servers at once. Rules are in `federation.simulator.rules`, checked after every event and when all is quiet.
"""

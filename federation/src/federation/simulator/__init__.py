"""A fleet in virtual time: the real federation controllers over a memory store, with modelled members.

One seed decides everything: what users do, which member stops, which link is cut, mute, deaf, slow or flapping, whose
clock is wrong, after which write the server dies, how long each pod takes, every generated name. A day passes in the time
that its work takes, and a history that breaks a rule is replayed by its seed:

    python -m federation.simulator --seed 1234 --verbose

What is real: controllers, planners, API server (registry, admission, watch cache, in-process client), informers, queues.
What is modelled: members (their agent, their pods, grants of mode consistency, probes of each other in every second seed),
links, users. In every third seed users bring a kind of their own with its scripts, in every second they write ClusterRoles, and in
all of them some workloads prefer clusters by their price. What is left out: sockets, TLS, the database, two servers at once, in
nine of ten seeds the writing of Events, and in fleets of more than two dozen members the probes of most. Rules are in `federation.simulator.rules`, checked after every write and, with more of them, when all is quiet.
Bugs that are planted to see that they are found are in `federation.simulator.bugs`.
"""

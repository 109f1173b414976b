"""How many replicas the load asks for (`replicas`), and how fast they may come and go (`rates`): HPA v2's rules. Pure."""

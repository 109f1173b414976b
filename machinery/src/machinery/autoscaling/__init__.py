"""HPA v2's rules: how many replicas the load asks for (`replicas`), how fast they may come and go (`rates`), what of it is done and said (`deciding`). Pure."""

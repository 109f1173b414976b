"""ServiceImport: its clusterset addresses and its status."""

"""Framings both servers and nodes speak: WebSocket channels, the reversed link."""

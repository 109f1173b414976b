"""The aiohttp API server of both programs."""

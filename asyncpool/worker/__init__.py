"""The child: a program of its own. To start, it imports neither asyncio nor anyio nor logging; a test sees to that."""

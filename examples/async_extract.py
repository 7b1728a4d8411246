"""Features inside an asyncio program: `python async_extract.py VIDEO...`.

The network runs in a thread, so the event loop goes on answering; one video at a time, because a
network uses all cores by itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable

import tubelet


async def extracted(
    extractor: tubelet.Extractor, videos: Iterable[str]
) -> AsyncIterator[tuple[str, tubelet.Features | tubelet.TubeletError]]:
    """(video, its features, or why there are none)"""
    for video in videos:
        try:
            yield video, await asyncio.to_thread(extractor, video)
        except tubelet.TubeletError as error:
            yield video, error


async def main(videos: list[str]) -> None:
    async for video, result in extracted(tubelet.Extractor(), videos):
        print(video, result if isinstance(result, tubelet.TubeletError) else result.values.shape)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))

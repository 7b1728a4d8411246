"""The user programs of examples/, on small videos and a network that takes no time."""

import asyncio

import numpy as np
from examples import async_extract, dataloader, streaming

import tubelet
from tests_support import go, tiny, video


def test_dataloader(tmp_path):
    inputs = [video(tmp_path / f"{name}.mp4", frames=n) for name, n in (("a", 6), ("b", 12))]
    go(inputs, tmp_path / "out")
    (batch,) = dataloader.batches(str(tmp_path / "out"), workers=0)
    assert batch["id"] == ["a", "b"]
    stored = [tubelet.load(tmp_path / "out" / f"{name}.npy").values for name in "ab"]
    for values, mask, wanted in zip(batch["values"], batch["mask"], stored, strict=True):
        assert mask.sum() == len(wanted)
        np.testing.assert_array_equal(values[mask].numpy(), wanted)
        assert not values[~mask].any()


def test_streaming_gives_the_rows_of_the_whole(tmp_path):
    clip = str(video(tmp_path / "a.mp4"))
    whole = tiny()(clip).values
    indices, rows = zip(*streaming.rows(tiny(), clip), strict=True)
    assert indices == tuple(range(len(whole)))
    np.testing.assert_array_equal(np.stack(rows), whole)


def test_asyncio_goes_on_while_a_network_runs(tmp_path):
    clip, absent = str(video(tmp_path / "a.mp4")), str(tmp_path / "absent.mp4")
    ticks = 0

    async def program():
        nonlocal ticks

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        found = [item async for item in async_extract.extracted(tiny(), [clip, absent])]
        ticking.cancel()
        return found

    (first, features), (second, error) = asyncio.run(program())
    assert (first, second) == (clip, absent)
    assert isinstance(features, tubelet.Features)
    assert len(features.values) == len(tiny()(clip).values)
    assert isinstance(error, tubelet.TubeletError)
    assert ticks > 1

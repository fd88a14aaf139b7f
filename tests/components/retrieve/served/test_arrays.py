"""Arrays that several folders need are written once."""

import numpy as np

from components.retrieve.served.arrays import LARGE, ArrayReader, ArrayWriter


def test_a_large_array_of_another_folder_is_not_written_again(tmp_path) -> None:
    large, small = np.arange(LARGE // 8), np.arange(3)
    final = ArrayWriter(tmp_path / "final")
    fold = ArrayWriter(tmp_path / "fold", beside=final)
    written = {
        writer: writer.mapping("side", {"vectors": vectors, "numbers": small, "counts": (counts, large)})
        for writer, vectors, counts in ((final, large, large + 1), (fold, large, large + 2))
    }
    for writer in written:
        writer.folder.mkdir()
        writer.write()
    for name, count in (("final", 2), ("fold", 1)):
        size = sum(file.stat().st_size for file in (tmp_path / name).iterdir())
        assert round(size / LARGE) == count

    of_final = ArrayReader(tmp_path / "final", ())
    of_fold = ArrayReader(tmp_path / "fold", (), beside=of_final)
    for reader, writer, added in ((of_final, final, 1), (of_fold, fold, 2)):
        found = {key: reader.get(spec) for key, spec in written[writer].items()}
        assert np.array_equal(found["vectors"], large)
        assert np.array_equal(found["numbers"], small)
        assert np.array_equal(found["counts"][0], large + added)
        assert np.array_equal(found["counts"][1], large)
    shared = of_fold.get(written[fold]["vectors"])
    assert np.shares_memory(shared, of_final.get(written[final]["vectors"]))

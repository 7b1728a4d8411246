"""A real S3 server (moto) on this machine."""

from contextlib import contextmanager

import pytest


class Server:
    """`system` is an s3fs file system of it. Buckets outlive `stop` and `start`."""

    def __init__(self):
        self._server, self._port = None, 0
        self.start()

    def start(self):
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._server.start()
        self._port = self._server.get_host_and_port()[1]

    def stop(self):
        self._server.stop()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._port}"

    @property
    def system(self):
        import s3fs

        system = s3fs.S3FileSystem()
        system.invalidate_cache()
        return system

    def tree(self, url, *, hidden=False):
        """Every object below a URL and its bytes."""
        root = url.removeprefix("s3://") + "/"
        names = [n.removeprefix(root) for n in self.system.find(root)]
        shown = [n for n in names if hidden or ".tubelet" not in n.split("/")]
        return {name: self.system.cat_file(root + name) for name in sorted(shown)}


@contextmanager
def s3_server():
    """Runs while the block does; this process and those that it starts use it. Without the
    libraries the test is skipped."""
    pytest.importorskip("s3fs", reason="needs tubelet[s3]")
    pytest.importorskip("flask_cors", reason="needs moto's server")
    import s3fs

    server = Server()
    s3fs.S3FileSystem.clear_instance_cache()  # those of another server
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", server.url)
        yield server
    server.stop()

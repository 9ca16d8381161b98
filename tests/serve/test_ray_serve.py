"""The deployment on Ray against a stub of Ray; ``perf/serve_ray.py`` runs the real one."""

from __future__ import annotations

import asyncio
import pickle
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest

import deepgen.serve.ray_serve
from deepgen.checkpoint.finding import find_model
from deepgen.cli.serve import parse_replicas
from deepgen.config.serve import Replicas, ServeConfig
from deepgen.errors import DeepGenError, UsageError
from deepgen.serve.app import Server
from deepgen.serve.ray_proxy import proxy_middlewares
from deepgen.serve.ray_serve import (
    PROXY_ENVIRONMENT,
    absolute,
    application,
    deployment_options,
    serve_on_ray,
)
from tests.serve.stub import StubEngine


def test_replicas_are_a_number_or_a_range() -> None:
    assert parse_replicas("3") == Replicas(least=3, most=3)
    assert parse_replicas("1:4") == Replicas(least=1, most=4)
    for text in ("", "0", "4:1", "1:", ":2", "a", "-1", "1:2:3"):
        with pytest.raises(UsageError, match="MIN:MAX"):
            parse_replicas(text)


def test_a_replica_takes_more_than_what_starts_the_next_one_and_has_time_to_end() -> None:
    config = ServeConfig(max_batch_rows=4, max_queue=10, deadline=100.0, grace=5.0)
    options = deployment_options(config, Replicas(least=1, most=3), has_gpu=True)
    scaling = options["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (1, 3)
    assert scaling["target_ongoing_requests"] < 4 < options["max_ongoing_requests"] == 14
    assert options["graceful_shutdown_timeout_s"] == 105
    assert options["ray_actor_options"]["num_gpus"] == 1
    # Memory is planned for one guided image at a time.
    planned = ServeConfig(memory=8.0, max_queue=10)
    options = deployment_options(planned, Replicas(least=1, most=3), has_gpu=True)
    assert options["max_ongoing_requests"] == 12


@pytest.fixture
def stub_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(settings: object, *, max_queue: int) -> StubEngine:
        return StubEngine(max_queue=max_queue)

    monkeypatch.setattr(deepgen.serve.ray_serve, "EngineClient", make)


@pytest.mark.usefixtures("stub_engine")
def test_it_is_the_same_application_under_rays_proxy_until_a_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: dict[str, Any] = {}

    class Deployment:
        def bind(self) -> Deployment:
            return self

    def ingress(builder: Any) -> Any:
        told["builder"] = builder
        return lambda cls: cls

    def deployment(**options: Any) -> Any:
        told["options"] = options
        return lambda cls: Deployment()

    serve = ModuleType("ray.serve")
    vars(serve).update(
        start=lambda **options: told.update(options),
        ingress=ingress,
        deployment=deployment,
        run=lambda bound, **options: told.update(options),
        shutdown=lambda: told.update(is_down=True),
    )
    ray = ModuleType("ray")
    vars(ray).update(
        serve=serve,
        is_initialized=lambda: False,
        init=lambda **options: told.update(init=options),
        cluster_resources=dict,
        shutdown=lambda: None,
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.serve", serve)
    config = ServeConfig(port=8123)
    addresses: list[str] = []

    def on_start(address: str) -> None:
        addresses.append(address)
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    serve_on_ray(config, Replicas(least=2, most=2), on_start)
    assert signal.getsignal(signal.SIGTERM) == before
    assert addresses == ["http://127.0.0.1:8123"]
    assert told["http_options"] == {"host": "127.0.0.1", "port": 8123}
    assert told["init"]["include_dashboard"] is False
    assert told["options"]["ray_actor_options"]["num_gpus"] == 0
    assert told["is_down"]
    with pytest.raises(KeyboardInterrupt):
        serve_on_ray(config, Replicas(), lambda _: signal.raise_signal(signal.SIGINT))

    async def ask() -> httpx2.Response:
        transport = httpx2.ASGITransport(told["builder"]())
        async with httpx2.AsyncClient(transport=transport) as client:
            return await client.get("http://localhost/v1/models")

    assert asyncio.run(ask()).json()["data"][0]["id"] == "mini"


def test_what_a_killed_replica_was_making_is_answered_503() -> None:
    async def killed(scope: Any, receive: Any, send: Any) -> None:
        """The proxy sends nothing, and its web server makes 500 of that."""

    async def none_left(scope: Any, receive: Any, send: Any) -> None:
        plain = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 503, "headers": plain})
        await send({"type": "http.response.body", "body": b"deployment unavailable"})

    async def own_failure(scope: Any, receive: Any, send: Any) -> None:
        own = [(b"x-request-id", b"req_1")]
        await send({"type": "http.response.start", "status": 500, "headers": own})
        await send({"type": "http.response.body", "body": b"{}"})

    async def ask(app: Any) -> httpx2.Response:
        (middleware,) = proxy_middlewares()
        transport = httpx2.ASGITransport(middleware.cls(app))
        async with httpx2.AsyncClient(transport=transport) as client:
            return await client.post("http://localhost/v1/images/generations", json={})

    for app in (killed, none_left):
        found = asyncio.run(ask(app))
        assert found.status_code == 503
        assert found.json()["error"]["code"] == "worker_unavailable"
        assert found.headers["x-should-retry"] == "true"
        assert found.headers["retry-after"] == "1"
    assert asyncio.run(ask(own_failure)).status_code == 500
    name = PROXY_ENVIRONMENT["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]
    assert name == "deepgen.serve.ray_proxy:proxy_middlewares"


def test_replicas_get_absolute_paths_and_the_models_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    own = ServeConfig(model="model", adapters=(("a", 0.5),), sign=(Path("key"), Path("chain")))
    config, location = absolute(own)
    assert (config.model, location) == ("model", str(tmp_path / "model"))
    assert config.adapters == ((str(tmp_path / "a"), 0.5),)
    assert config.sign == (tmp_path / "key", tmp_path / "chain")
    # The embedded model stays so beside a folder of its name, as without Ray.
    Path("mini").mkdir()
    assert absolute(ServeConfig())[1] == "mini"


def test_a_replica_has_started_once_it_can_make_images() -> None:
    class Loading(StubEngine):
        def start(self) -> None:
            self.start_later = asyncio.get_running_loop().call_later(0.05, super().start)

    engine = Loading()
    server = Server(ServeConfig(), find_model("mini"), engine)
    was_ready: list[bool] = []

    async def start() -> None:
        messages = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> dict[str, Any]:
            return {"type": next(messages)}

        async def send(message: Any) -> None:
            was_ready.append(engine.ready is not None)

        app = server.application(starts_ready=True)
        await app({"type": "lifespan", "state": {}}, receive, send)

    asyncio.run(start())
    assert was_ready[0]

    failed = StubEngine()
    failed.failure = "no engine"
    with pytest.raises(DeepGenError, match="no engine"):
        asyncio.run(failed.until_ready())


def test_settings_travel_to_a_replica() -> None:
    config = ServeConfig(keys=(("ann", "a-key-of-some-length"),))
    assert pickle.loads(pickle.dumps(config)) == config
    assert callable(application)

"""The server on a Ray cluster (extra ``ray``): each replica is the whole application, on its GPU.

Ray's proxy hands each request to the replica with the fewest; Ray starts and stops replicas by how
many requests wait. Replicas do not know each other: limits of keys hold for each alone, and a
request can be cancelled by ending its connection only.

Ray's processes exchange pickles and run whatever each other sends: a cluster is one zone of trust,
on a closed network.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from deepgen.checkpoint.finding import find_model
from deepgen.checkpoint.hub import EMBEDDED
from deepgen.config.serve import Replicas, ServeConfig, usual_rows
from deepgen.ray_cluster import gpus_each, ray_cluster
from deepgen.serve.app import Server
from deepgen.serve.engine_client import EngineClient
from deepgen.serve.guard import App
from deepgen.serve.logs import set_up
from deepgen.serve.server import address_of, engine_settings

TARGET = 0.7
"""Of a replica's rows: with more requests than that, Ray starts another replica."""

HEALTH_SECONDS = 5.0


def deployment_options(config: ServeConfig, replicas: Replicas, *, has_gpu: bool) -> dict[str, Any]:
    """What Ray is told of a deployment.

    Args:
        config: Settings of the server.
        replicas: How many.
        has_gpu: Whether each replica gets a GPU.
    """
    usual = usual_rows(has_gpu=has_gpu, is_memory_planned=config.memory is not None)
    rows = config.max_batch_rows or usual
    return {
        "name": "deepgen",
        "autoscaling_config": {
            "min_replicas": replicas.least,
            "max_replicas": replicas.most,
            "initial_replicas": replicas.least,
            "target_ongoing_requests": TARGET * rows,
        },
        # Beyond what runs a replica has its own queue, whose refusals say when to come again.
        "max_ongoing_requests": rows + config.max_queue,
        # A replica that is replaced ends what it has.
        "graceful_shutdown_timeout_s": config.deadline + config.grace,
        "health_check_period_s": HEALTH_SECONDS,
        "ray_actor_options": {"num_cpus": 1, "num_gpus": 1 if has_gpu else 0},
    }


def application(config: ServeConfig, location: str) -> App:
    """A replica: the server with an engine of its own; called where it runs.

    Args:
        config: Settings.
        location: Where the model is: as ``config.model``, but absolute.
    """
    set_up()
    model = find_model(location)
    engine = EngineClient(engine_settings(config, model.path), max_queue=config.max_queue)
    # A replica that loads its model answers quickly, with 503, and would get all requests.
    return Server(config, model, engine).application(starts_ready=True)


PROXY_ENVIRONMENT: Mapping[str, str] = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "deepgen.serve.ray_proxy:proxy_middlewares",
    # On a busy machine its imports alone take longer than the usual 5 seconds.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
}


def serve_on_ray(config: ServeConfig, replicas: Replicas, on_start: Callable[[str], None]) -> None:
    """Serve on the cluster of ``RAY_ADDRESS``, or on one of this machine, until a signal.

    Args:
        config: Settings; host and port are those of Ray's proxies.
        replicas: How many.
        on_start: Called with the address, once requests are accepted.

    Raises:
        KeyboardInterrupt: It was Ctrl-C that ended it.
    """
    ended, numbers = threading.Event(), list[int]()

    def end(number: int, _: FrameType | None) -> None:
        numbers.append(number)
        ended.set()

    config, location = absolute(config)
    with ray_cluster(shows_logs=True, environment=PROXY_ENVIRONMENT) as ray:
        from ray import serve

        serve.start(http_options={"host": config.host, "port": config.port})
        has_gpu = bool(gpus_each(ray, config.device))
        options = deployment_options(config, replicas, has_gpu=has_gpu)

        class Replica:
            """One engine with its server."""

        with_server: Any = serve.ingress(lambda: application(config, location))(Replica)
        bound = serve.deployment(**options)(with_server).bind()
        serve.run(bound, name="deepgen", route_prefix="/")
        before = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            on_start(address_of(config.host, config.port))
            ended.wait()
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
        serve.shutdown()
    if numbers and numbers[0] == signal.SIGINT:
        raise KeyboardInterrupt


def absolute(config: ServeConfig) -> tuple[ServeConfig, str]:
    """The settings with absolute paths, since replicas have another working folder; and where the
    model is, whose name stays."""
    adapters = tuple((str(Path(path).absolute()), scale) for path, scale in config.adapters)
    sign = config.sign
    if sign is not None:
        sign = (sign[0].absolute(), sign[1].absolute())
    folder = Path(config.model)
    # As `hub.resolve`: the embedded model's name is not a folder, even where there is one.
    is_folder = config.model != EMBEDDED and folder.exists()
    location = str(folder.absolute()) if is_folder else config.model
    return replace(config, adapters=adapters, sign=sign), location

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
from collections.abc import Callable
from types import FrameType
from typing import Any

from deepgen.checkpoint.finding import find_model
from deepgen.config.serve import Replicas, ServeConfig
from deepgen.serve.app import Server
from deepgen.serve.engine_client import EngineClient
from deepgen.serve.guard import App
from deepgen.serve.logs import set_up
from deepgen.serve.server import engine_settings

TARGET = 0.7
"""Of a replica's rows: with more requests than that, Ray starts another replica."""

CPU_ROWS, GPU_ROWS = 8, 16

HEALTH_SECONDS = 5.0


def deployment_options(config: ServeConfig, replicas: Replicas, *, has_gpu: bool) -> dict[str, Any]:
    """What Ray is told of a deployment.

    Args:
        config: Settings of the server.
        replicas: How many.
        has_gpu: Whether each replica gets a GPU.
    """
    rows = config.max_batch_rows or (GPU_ROWS if has_gpu else CPU_ROWS)
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


def application(config: ServeConfig) -> App:
    """A replica: the server with an engine of its own; called where it runs."""
    set_up()
    model = find_model(config.model)
    engine = EngineClient(engine_settings(config, model.path), max_queue=config.max_queue)
    # A replica that loads its model answers quickly, with 503, and would get all requests.
    return Server(config, model, engine).application(starts_ready=True)


def serve_on_ray(config: ServeConfig, replicas: Replicas, on_start: Callable[[str], None]) -> None:
    """Serve on the cluster of ``RAY_ADDRESS``, or on one of this machine, until a signal.

    Args:
        config: Settings; host and port are those of Ray's proxies.
        replicas: How many.
        on_start: Called with the address, once requests are accepted.

    Raises:
        KeyboardInterrupt: It was Ctrl-C that ended it.
    """
    import ray
    from ray import serve

    ended, numbers = threading.Event(), list[int]()

    def end(number: int, _: FrameType | None) -> None:
        numbers.append(number)
        ended.set()

    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=True)
    try:
        serve.start(http_options={"host": config.host, "port": config.port})
        has_gpu = config.device in ("auto", "cuda") and ray.cluster_resources().get("GPU", 0) > 0
        options = deployment_options(config, replicas, has_gpu=has_gpu)

        class Replica:
            """One engine with its server."""

        with_server: Any = serve.ingress(lambda: application(config))(Replica)
        bound = serve.deployment(**options)(with_server).bind()
        serve.run(bound, name="deepgen", route_prefix="/")
        before = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
        name = f"[{config.host}]" if ":" in config.host else config.host
        try:
            on_start(f"http://{name}:{config.port}")
            ended.wait()
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
        serve.shutdown()
    finally:
        ray.shutdown()
    if numbers and numbers[0] == signal.SIGINT:
        raise KeyboardInterrupt

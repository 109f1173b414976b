"""Pods of real containers: containerd, CNI, cgroups, volumes, probes, logs, exec. As root, in a private network."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import orjson
import pytest
import pytest_asyncio
import websockets
from tests.integration.node.clusters import TOKEN, Cluster, cluster, eventually, node
from tests.integration.node.containers import Containerd
from websockets.typing import Subprotocol

from cluster_agent.node.app import NodeProcess
from cluster_agent.node.config import NodeConfig
from machinery.api.core import (
    CONFIGMAPS,
    EVENTS,
    NODES,
    PODS,
    SECRETS,
    ContainerState,
    Pod,
)
from machinery.client.interface import DeleteOptions
from machinery.meta.objectmeta import is_true
from machinery.meta.resource import ObjectKey
from machinery.wire import channels

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
]
SLEEP = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]


def busy(name: str = "c", **fields: object) -> dict[str, object]:
    return {"name": name, "image": "docker.io/lab/busybox:1", "command": SLEEP, **fields}


class Home:
    """Cluster, containerd and the settings of the node."""

    def __init__(self, made: Cluster, containerd: Containerd, tmp_path: Path) -> None:
        self.cluster, self.containerd = made, containerd
        self.config = NodeConfig(
            node_name="node-1",
            state_dir=str(tmp_path / "state"),
            api_server=made.server.api.url,
            ca_file=made.ca_file(),
            bootstrap_token=TOKEN,
            containerd_socket=containerd.socket,
            zone="zone-a",
            cluster_name="alpha",
            kubelet_port=0,
            pod_cidr="10.77.0.0/24",
            cni_conf_dir=str(containerd.base / "cni/net.d"),
            cni_bridge="ubt0",
            cgroup_root=f"/{containerd.run.name}",
        )

    @contextlib.asynccontextmanager
    async def node(self) -> AsyncIterator[NodeProcess]:
        async with node(self.config) as process:
            await eventually(lambda: process.ready)
            yield process

    async def clear(self) -> None:
        """Delete what a test left, through the node, so that nothing stays on the machine."""
        async with self.node() as process:
            for found in (await self.cluster.rest.list(PODS, "demo")).items:
                options = DeleteOptions(grace_period_seconds=1)
                await self.cluster.rest.delete(PODS, found.key, options)
            await eventually(self._empty)
            await eventually(lambda: not process.parts["node-1"].kubelet.workers)
        for tree in Path("/sys/fs/cgroup").iterdir():
            root = tree / self.config.cgroup_root.strip("/")
            for folder in (root / "burstable", root / "besteffort", root):
                if folder.is_dir():
                    folder.rmdir()

    async def _empty(self) -> bool:
        return not (await self.cluster.rest.list(PODS, "demo")).items


@pytest_asyncio.fixture(loop_scope="module")
async def home(containerd: Containerd, tmp_path: Path) -> AsyncIterator[Home]:
    async with cluster(tmp_path) as made:
        found = Home(made, containerd, tmp_path)
        yield found
        await found.clear()


async def output(process: NodeProcess, pod: Pod, *command: str, name: str = "c") -> str:
    """What a command in a container prints."""
    runtime = process.parts["node-1"].runtime
    observed = await runtime.observe(pod.metadata.uid)
    record = observed.latest(name)
    assert record is not None
    result = await runtime.exec_sync(record.id, command, 10)
    return result.output.decode()


async def reasons(home: Home, pod: str) -> set[str]:
    listing = await home.cluster.rest.list(EVENTS, "demo")
    return {e.reason for e in listing.items if e.involved_object.name == pod}


async def test_a_pod_runs_with_its_own_names_and_leaves_nothing(home: Home) -> None:
    async with home.node() as process:
        ready = await home.cluster.rest.get(NODES, ObjectKey("", "node-1"))
        assert is_true(ready.status.conditions, "Ready")
        assert ready.status.node_info.container_runtime_version.startswith("containerd://1.")
        await home.cluster.pod(
            "web",
            "node-1",
            containers=[
                busy(
                    resources={"limits": {"cpu": "200m", "memory": "32Mi"}},
                    env=[
                        {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                        {"name": "HELLO", "value": "$(WHO)!"},
                    ],
                )
            ],
            hostAliases=[{"ip": "192.0.2.7", "hostnames": ["elsewhere"]}],
        )
        found = await eventually(lambda: home.cluster.ready("web"))
        assert found.status.pod_ip.startswith("10.77.0.")
        assert found.status.qos_class == "Guaranteed"
        hosts = await output(process, found, "cat", "/etc/hosts")
        assert f"{found.status.pod_ip}\tweb" in hosts
        assert "192.0.2.7\telsewhere" in hosts
        env = await output(process, found, "env")
        assert {"HELLO=web!", f"IP={found.status.pod_ip}", "UBERNETES_ZONE=zone-a"} <= set(
            env.splitlines()
        )
        assert (await output(process, found, "hostname")).strip() == "web"
        group = f"{home.config.cgroup_root.strip('/')}/pod{found.metadata.uid}"
        limit = Path("/sys/fs/cgroup/memory") / group / "memory.limit_in_bytes"
        assert limit.read_text().strip() == str(32 * 1024 * 1024)
        log = Path(home.config.state_dir) / "logs" / f"demo_web_{found.metadata.uid}"
        assert (log / "c/0.log").exists()
        await home.cluster.rest.delete(PODS, found.key)
        await eventually(lambda: home.cluster.gone("web"))
        assert not list(Path("/sys/fs/cgroup").glob(f"*/{group}"))
        assert not log.exists()
        assert {"Pulled", "Created", "Started", "Killing"} <= await reasons(home, "web")


async def test_volumes_appear_and_follow_their_objects(home: Home) -> None:
    rest = home.cluster.rest
    await rest.create(CONFIGMAPS, {"metadata": {"name": "settings"}, "data": {"a": "1"}}, "demo")
    await rest.create(
        SECRETS,
        {"metadata": {"name": "key"}, "data": {"k": base64.b64encode(b"hush").decode()}},
        "demo",
    )
    volumes = [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "key", "secret": {"secretName": "key", "defaultMode": 0o400}},
        {"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "me", "downwardAPI": {"items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "maybe", "configMap": {"name": "absent", "optional": True}},
    ]  # fmt: skip
    mounts = [{"name": v["name"], "mountPath": f"/v/{v['name']}"} for v in volumes]
    async with home.node() as process:
        meta = {"labels": {"app": "web"}}
        await home.cluster.pod(
            "web",
            "node-1",
            meta=meta,
            containers=[
                busy(volumeMounts=mounts, envFrom=[{"configMapRef": {"name": "settings"}}])
            ],
            volumes=volumes,
        )
        found = await eventually(lambda: home.cluster.ready("web"))
        assert await output(process, found, "cat", "/v/settings/a") == "1"
        assert await output(process, found, "cat", "/v/key/k") == "hush"
        assert (await output(process, found, "stat", "-Lc", "%a", "/v/key/k")).strip() == "400"
        assert await output(process, found, "cat", "/v/me/labels") == 'app="web"'
        assert "tmpfs /v/fast" in await output(process, found, "mount") or "/v/fast type tmpfs" in (
            await output(process, found, "mount")
        )
        assert "a=1" in await output(process, found, "env")
        await rest.patch(CONFIGMAPS, ObjectKey("demo", "settings"), {"data": {"a": "2", "b": "3"}})

        async def followed() -> bool:
            return await output(process, found, "cat", "/v/settings/a", "/v/settings/b") == "23"

        await eventually(followed)


async def test_a_missing_config_map_holds_a_pod_back_until_it_comes(home: Home) -> None:
    async with home.node():
        await home.cluster.pod(
            "web",
            "node-1",
            containers=[busy(envFrom=[{"configMapRef": {"name": "later"}}])],
        )

        async def waiting() -> bool:
            found = await home.cluster.get("web")
            statuses = found.status.container_statuses
            state = statuses[0].state.waiting if statuses else None
            return state is not None and state.reason == "CreateContainerConfigError"

        await eventually(waiting)
        await home.cluster.rest.create(
            CONFIGMAPS, {"metadata": {"name": "later"}, "data": {"x": "1"}}, "demo"
        )
        await eventually(lambda: home.cluster.ready("web"))


async def test_probes_decide_readiness_and_restarts(home: Home) -> None:
    async with home.node() as process:
        serve = [
            "sh",
            "-c",
            "mkdir /tmp/w; echo hi >/tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w",
        ]
        # On a busy machine an exec may take longer than the default of a second.
        probe = {"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 10}
        await home.cluster.pod(
            "web",
            "node-1",
            containers=[
                busy(
                    command=serve,
                    ports=[{"name": "http", "containerPort": 8080}],
                    startupProbe=probe | {"tcpSocket": {"port": 8080}, "failureThreshold": 30},
                    readinessProbe=probe | {"httpGet": {"path": "/index.html", "port": "http"}},
                    livenessProbe=probe | {"exec": {"command": ["test", "!", "-e", "/tmp/sick"]}},
                )
            ],
            terminationGracePeriodSeconds=1,
        )
        found = await eventually(lambda: home.cluster.ready("web"))
        await output(process, found, "mv", "/tmp/w/index.html", "/tmp/w/away")

        async def unready() -> bool:
            return not is_true((await home.cluster.get("web")).status.conditions, "Ready")

        await eventually(unready)
        await output(process, found, "touch", "/tmp/sick")

        async def restarted() -> bool:
            return (await home.cluster.get("web")).status.container_statuses[0].restart_count >= 1

        await eventually(restarted)
        await eventually(lambda: home.cluster.ready("web"))
        assert "Unhealthy" in await reasons(home, "web")


async def test_init_containers_a_job_and_its_last_words(home: Home) -> None:
    async with home.node():
        shared = [{"name": "d", "mountPath": "/d"}]
        await home.cluster.pod(
            "job",
            "node-1",
            initContainers=[
                busy("first", command=["sh", "-c", "echo 5 >/d/x"], volumeMounts=shared)
            ],
            containers=[
                busy(
                    command=["sh", "-c", "echo bye >/dev/termination-log; exit $(cat /d/x)"],
                    volumeMounts=shared,
                )
            ],
            volumes=[{"name": "d", "emptyDir": {}}],
            restartPolicy="Never",
        )
        found = await eventually(lambda: home.cluster.phase("job", "Failed"))
        ended = found.status.container_statuses[0].state.terminated
        assert (ended.exit_code, ended.reason, ended.message) == (5, "Error", "bye\n")
        first = found.status.init_container_statuses[0]
        assert first.ready and first.state.terminated.reason == "Completed"


async def test_a_container_out_of_memory_says_so(home: Home) -> None:
    async with home.node():
        hungry = "x=a; while :; do x=$x$x$x$x; done"
        await home.cluster.pod(
            "hog",
            "node-1",
            containers=[
                busy(command=["sh", "-c", f"exec sh -c '{hungry}'"],
                     resources={"limits": {"memory": "16Mi"}})
            ],
            restartPolicy="Never",
        )  # fmt: skip
        found = await eventually(lambda: home.cluster.phase("hog", "Failed"))
        ended = found.status.container_statuses[0].state.terminated
        assert (ended.reason, ended.exit_code) == ("OOMKilled", 137)


async def test_an_image_that_is_not_there(home: Home) -> None:
    async with home.node():
        await home.cluster.pod(
            "web", "node-1", containers=[busy(image="127.0.0.1:1/no/such:1")],
        )  # fmt: skip

        async def told() -> bool:
            statuses = (await home.cluster.get("web")).status.container_statuses
            state = statuses[0].state.waiting if statuses else None
            return state is not None and state.reason == "ImagePullBackOff"

        await eventually(told)
        assert {"Pulling", "Failed", "BackOff"} <= await reasons(home, "web")


async def test_kill_9_of_node_and_containerd_restarts_nothing(home: Home) -> None:
    async with home.node():
        await home.cluster.pod("web", "node-1", containers=[busy()])
        before = await eventually(lambda: home.cluster.ready("web"))
    home.containerd.kill()
    await asyncio.sleep(0.5)
    home.containerd.start()
    async with home.node() as process:
        home.containerd.kill()
        await asyncio.sleep(2)
        home.containerd.start()

        async def observed() -> bool:
            with contextlib.suppress(Exception):
                pod = await process.parts["node-1"].runtime.observe(before.metadata.uid)
                return bool(pod.containers)
            return False

        await eventually(observed)
        await asyncio.sleep(3)
        after = await home.cluster.get("web")
        old, new = before.status.container_statuses[0], after.status.container_statuses[0]
        assert (new.container_id, new.state.running, new.restart_count) == (
            old.container_id,
            old.state.running,
            0,
        )
        assert is_true(after.status.conditions, "Ready")


# ------------------------------------------------------------------------------------------------ logs, exec, attach
async def test_logs_tail_previous_and_follow(home: Home) -> None:
    async with home.node():
        words = ["sh", "-c", "for i in 1 2 3; do echo line $i; done; sleep 1; exit 1"]
        await home.cluster.pod("web", "node-1", containers=[busy(command=words)])

        async def restarted() -> bool:
            statuses = (await home.cluster.get("web")).status.container_statuses
            return bool(statuses) and statuses[0].restart_count >= 1

        await eventually(restarted)
        base = "/api/v1/namespaces/demo/pods/web/log"
        previous = await home.cluster.rest.request("GET", base, query={"previous": "true"})
        assert previous == b"line 1\nline 2\nline 3\n"
        last = await home.cluster.rest.request(
            "GET", base, query={"tailLines": "1", "timestamps": "true"}
        )
        assert last.endswith(b" line 3\n") and last.startswith(b"20")
        followed = await home.cluster.rest.request(
            "GET", base, query={"follow": "true", "limitBytes": "10"}
        )
        assert followed == b"line 1\nlin"


class Session:
    """An exec or attach through the API server, as kubectl speaks it."""

    def __init__(self, home: Home, pod: str, verb: str, **flags: object) -> None:
        self.home = home
        query: list[tuple[str, str]] = [("container", "c")]
        for name, value in flags.items():
            if name == "command":
                query += [("command", word) for word in value]  # type: ignore[attr-defined]
            elif value:
                query.append((name, "true"))
        self.path = f"/api/v1/namespaces/demo/pods/{pod}/{verb}?{urlencode(query)}"

    async def run(
        self,
        *inputs: bytes,
        protocol: str = "v5.channel.k8s.io",
        close: bool = True,
        until: bytes = b"",
    ) -> tuple[bytes, bytes, int | None]:
        """(stdout, stderr, exit code); with `until` the connection is dropped after that output."""
        server = self.home.cluster.server
        url = server.api.url.replace("https", "wss") + self.path
        out, err, code = b"", b"", None
        async with websockets.connect(
            url, ssl=server.tls(), subprotocols=[Subprotocol(protocol)], proxy=None
        ) as socket:
            for data in inputs:
                await socket.send(data)
            if inputs and close and protocol == channels.V5:
                await socket.send(channels.encode_close(channels.STDIN))
            async for message in socket:
                assert isinstance(message, bytes)
                frame = channels.decode(message)
                assert frame is not None
                if frame.channel == channels.STDOUT:
                    out += frame.data
                elif frame.channel == channels.STDERR:
                    err += frame.data
                elif frame.channel == channels.ERROR and frame.data:
                    code = channels.exit_code_of(orjson.loads(frame.data))
                if until and until in out:
                    break
        return out, err, code


async def test_exec_streams_exit_codes_end_of_input_and_terminals(home: Home) -> None:
    async with home.node():
        await home.cluster.pod("web", "node-1", containers=[busy()])
        await eventually(lambda: home.cluster.ready("web"))

        def exec_(*command: str, **flags: object) -> Session:
            return Session(home, "web", "exec", command=command, **flags)

        words = exec_("sh", "-c", "echo out; echo err >&2; exit 7", stdout=True, stderr=True)
        assert await words.run() == (b"out\n", b"err\n", 7)
        assert await words.run(protocol=channels.V4) == (b"out\n", b"err\n", 7)
        count = exec_("wc", "-c", stdin=True, stdout=True)
        block = channels.encode(channels.STDIN, b"x" * 30_000)
        out, _, code = await count.run(*[block] * 20)
        assert (out.strip(), code) == (b"600000", 0)
        missing = exec_("/no/such/program", stdout=True)
        _, _, code = await missing.run()
        assert code is None or code == 127
        # The size travels beside the input: on a busy machine it may come a moment later.
        patient = 'read x; until [ -n "$(stty size 2>&- )" ]; do sleep 0.1; done; stty size; exit 3'
        size = exec_("sh", "-c", patient, stdin=True, stdout=True, tty=True)
        out, _, code = await size.run(
            channels.encode_resize(101, 41), channels.encode(channels.STDIN, b"go\n"), close=False
        )
        assert b"41 101" in out
        assert code == 3
        big = exec_("sh", "-c", "head -c 3000000 /dev/zero", stdout=True)
        out, _, code = await big.run()
        assert (len(out), code) == (3_000_000, 0)


async def test_attach_joins_the_containers_own_streams(home: Home) -> None:
    async with home.node():
        loop = ["sh", "-c", "while read x; do echo got $x; done"]
        await home.cluster.pod(
            "web", "node-1", containers=[busy(command=loop, stdin=True)],
        )  # fmt: skip
        await eventually(lambda: home.cluster.ready("web"))
        session = Session(home, "web", "attach", stdin=True, stdout=True)
        out, _, _ = await session.run(
            channels.encode(channels.STDIN, b"this\n"), close=False, until=b"got this\n"
        )
        assert out == b"got this\n"


async def looked_into(home: Home, guest: dict[str, object]) -> None:
    """Another ephemeral container for the pod."""
    path = "/api/v1/namespaces/demo/pods/web/ephemeralcontainers"
    patch = orjson.dumps({"spec": {"ephemeralContainers": [guest]}})
    kind = "application/strategic-merge-patch+json"
    await home.cluster.rest.request("PATCH", path, body=patch, content_type=kind)


async def test_ephemeral_containers_run_once_in_a_pod_that_runs(home: Home) -> None:
    async def states() -> dict[str, ContainerState]:
        found = (await home.cluster.get("web")).status.ephemeral_container_statuses
        return {status.name: status.state for status in found}

    async def run(*names: str) -> bool:
        found = await states()
        return all(name in found and found[name].running is not None for name in names)

    async def ended() -> bool:
        state = (await states()).get("short")
        return state is not None and state.terminated is not None

    async def refused() -> bool:
        state = (await states()).get("nowhere")
        return state is not None and state.waiting is not None and state.waiting.reason == "ImagePullBackOff"  # fmt: skip

    async with home.node() as process:
        await home.cluster.pod("web", "node-1", containers=[busy()])
        before = await eventually(lambda: home.cluster.ready("web"))
        await looked_into(home, busy("alone"))
        await looked_into(home, busy("looks", targetContainerName="c"))
        await looked_into(home, busy("short", command=["sh", "-c", "echo said; exit 7"]))
        await eventually(lambda: run("alone", "looks"))
        await eventually(ended)
        ps = ("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        seen = {name: await output(process, before, *ps, name=name) for name in ("alone", "looks")}
        assert seen["looks"].count("trap") == 2, "its own and the target's"
        assert seen["alone"].count("trap") == 1
        address = [await output(process, before, "ip", "-4", "addr", name=n) for n in ("c", "looks")]  # fmt: skip
        assert address[0] == address[1], "one network"
        log = await home.cluster.rest.request(
            "GET", "/api/v1/namespaces/demo/pods/web/log", query={"container": "short"}
        )
        assert log == b"said\n"
    kept = await states()
    async with home.node() as process:
        await looked_into(home, busy("nowhere", image="127.0.0.1:1/no/such:1"))
        await eventually(refused)
        after = await home.cluster.get("web")
        assert {name: state for name, state in (await states()).items() if name in kept} == kept
        assert after.status.container_statuses == before.status.container_statuses
        assert is_true(after.status.conditions, "Ready")
        short = kept["short"].terminated
        assert short is not None and short.exit_code == 7
        observed = await process.parts["node-1"].runtime.observe(before.metadata.uid)
        assert [c.attempt for c in observed.containers] == [0] * 4


async def test_logs_are_rotated_and_read_across_the_rotation(home: Home) -> None:
    home.config = replace(home.config, log_max_bytes=20_000, log_max_files=3)
    async with home.node() as process:
        words = [
            "sh",
            "-c",
            "i=0; while :; do i=$((i+1)); echo line $i; [ $i = 3000 ] && sleep 999; done",
        ]
        await home.cluster.pod("web", "node-1", containers=[busy(command=words)])
        found = await eventually(lambda: home.cluster.ready("web"))
        folder = Path(home.config.state_dir) / "logs" / f"demo_web_{found.metadata.uid}" / "c"
        await eventually(lambda: b"line 3000\n" in (folder / "0.log").read_bytes())
        passes = (work.__self__ for work in process.parts["node-1"].background)  # type: ignore[attr-defined]
        keeper = next(owner for owner in passes if hasattr(owner, "rotate_once"))
        await keeper.rotate_once()
        assert len(list(folder.iterdir())) == 2
        last = await home.cluster.rest.request(
            "GET", "/api/v1/namespaces/demo/pods/web/log", query={"tailLines": "2"}
        )
        assert last == b"line 2999\nline 3000\n"
        whole = await home.cluster.rest.request("GET", "/api/v1/namespaces/demo/pods/web/log")
        assert whole.count(b"\n") == 3000


async def test_a_service_account_token_is_projected(home: Home) -> None:
    await home.cluster.server.add_service_account("demo")
    source = {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}}
    async with home.node() as process:
        await home.cluster.pod(
            "web",
            "node-1",
            serviceAccountName="default",
            containers=[busy(volumeMounts=[{"name": "t", "mountPath": "/t"}])],
            volumes=[{"name": "t", "projected": {"sources": [source]}}],
        )
        found = await eventually(lambda: home.cluster.ready("web"))
        token = await output(process, found, "cat", "/t/token")
        assert token.count(".") == 2


async def test_without_the_api_pods_go_on_and_restart_with_the_node(home: Home) -> None:
    async with home.node():
        words = ["sh", "-c", "sleep 4; exit 1"]
        await home.cluster.pod("web", "node-1", containers=[busy(), busy("d", command=words)])
        found = await eventually(lambda: home.cluster.ready("web"))
    away = replace(home.config, api_server="https://127.0.0.1:1")
    process = NodeProcess(away)
    await process.start()
    try:
        runtime = process.parts["node-1"].runtime

        async def restarted() -> bool:
            pod = await runtime.observe(found.metadata.uid)
            again, steady = pod.latest("d"), pod.latest("c")
            assert steady is not None and steady.running and steady.attempt == 0
            return again is not None and again.attempt >= 1 and again.running

        await eventually(restarted)
        assert not process.ready
    finally:
        await process.stop()

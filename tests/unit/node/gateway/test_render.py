"""The files as they are, for a small plan."""

from pathlib import Path

from tests.unit.node.gateway.fakehaproxy import API, BETA, POD, WEB, exported

from cluster_agent.node.gateway.allocation import Allocation, allocate, place
from cluster_agent.node.gateway.model import Certificate, GatewayConfig, GatewayPlan, PeerSites
from cluster_agent.node.gateway.render import Files, render
from machinery.api.fleet.multicluster import NodeRange

STRANGER = PeerSites("gamma", (), (NodeRange("g1", ("10.3.1.0/24",), "10.3.1.1"),))
PLAN = GatewayPlan(
    "alpha",
    (exported("web", POD),),
    (WEB, API, type(WEB)("shop", "web", 80, "gamma"), type(WEB)("shop", "web", 80, "delta")),
    (STRANGER, BETA),
)


def made(*, root: bool = True) -> Files:
    return render(
        GatewayConfig("alpha", Path("unused")),
        PLAN,
        allocate(Allocation(), PLAN.egress),
        place((), PLAN.ingress)[:2],
        Certificate("the certificate\n", "the key", "the ca\n"),
        root=root,
    )


CONFIG = """\
global
    description SHAPE
    nbthread 1
    maxconn 4096
    hard-stop-after 600s
    stats socket unix@../admin.sock mode 600 level admin expose-fd listeners
    stats timeout 10s
    server-state-file ../servers.state
    ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256
    ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256
    chroot ../empty
    uid 65534
    gid 65534
defaults
    mode tcp
    timeout connect 3s
    timeout client 30s
    timeout server 30s
    timeout tunnel 24h
    timeout client-fin 1h
    timeout server-fin 1h
    option clitcpka
    clitcpka-idle 60s
    clitcpka-intvl 15s
    clitcpka-cnt 4
    option srvtcpka
    srvtcpka-idle 60s
    srvtcpka-intvl 15s
    srvtcpka-cnt 4
    retries 2
    option redispatch 1
frontend ingress
    maxconn 3072
    bind 0.0.0.0:15443 ssl crt gateway.pem ca-file ca.pem verify required ssl-min-ver TLSv1.3 prefer-client-ciphers
    tcp-request session reject unless { ssl_c_s_dn(CN),map_str(clients.map) -m found }
    tcp-request session reject unless { ssl_fc_sni,lower,map_str(ingress.map) -m found }
    use_backend %[ssl_fc_sni,lower,map_str(ingress.map)]
    default_backend refused
frontend egress
    bind 169.254.20.11:20000-20063
    use_backend %[so_id,add(19999),map_int(egress.map)]
    default_backend refused
backend refused
    tcp-request content reject
backend probe
    mode http
    http-request return status 200
backend peer:beta
    balance leastconn
    load-server-state-from-file global
    timeout connect 660ms
    timeout check 660ms
    option httpchk
    http-check send meth GET uri /
    http-check expect status 200
    default-server check inter 680ms fall 3 rise 2 check-sni probe.beta.gateway.ubernetes.internal verifyhost probe.beta.gateway.ubernetes.internal ssl crt gateway.pem ca-file ca.pem verify required ssl-min-ver TLSv1.3
    server 10.0.0.2:15443 10.0.0.2:15443 sni so_id,add(19999),map_int(names.map)
    server 10.0.0.3:15443 10.0.0.3:15443 sni so_id,add(19999),map_int(names.map)
backend nodes:beta
    load-server-state-from-file global
    timeout connect 660ms
    timeout check 660ms
    option httpchk
    http-check send meth GET uri /
    http-check expect status 200
    default-server check inter 680ms fall 3 rise 2 check-sni probe.beta.gateway.ubernetes.internal verifyhost probe.beta.gateway.ubernetes.internal ssl crt gateway.pem ca-file ca.pem verify required ssl-min-ver TLSv1.3
    server b1 10.2.1.1:15443
backend peer:gamma
    balance leastconn
    load-server-state-from-file global
    timeout connect 660ms
    timeout check 660ms
    option httpchk
    http-check send meth GET uri /
    http-check expect status 200
    default-server check inter 680ms fall 3 rise 2 check-sni probe.gamma.gateway.ubernetes.internal verifyhost probe.gamma.gateway.ubernetes.internal ssl crt gateway.pem ca-file ca.pem verify required ssl-min-ver TLSv1.3
backend nodes:gamma
    load-server-state-from-file global
    timeout connect 660ms
    timeout check 660ms
    option httpchk
    http-check send meth GET uri /
    http-check expect status 200
    default-server check inter 680ms fall 3 rise 2 check-sni probe.gamma.gateway.ubernetes.internal verifyhost probe.gamma.gateway.ubernetes.internal ssl crt gateway.pem ca-file ca.pem verify required ssl-min-ver TLSv1.3
    server g1 10.3.1.1:15443
backend in:0
    balance leastconn
    server s1 10.1.1.5:8080
    server s2 127.0.0.1:9 disabled
    server s3 127.0.0.1:9 disabled
    server s4 127.0.0.1:9 disabled
backend in:1
    balance leastconn
    server s1 127.0.0.1:9 disabled
    server s2 127.0.0.1:9 disabled
    server s3 127.0.0.1:9 disabled
    server s4 127.0.0.1:9 disabled
"""


def test_the_configuration() -> None:
    assert made().config == CONFIG.replace("SHAPE", made().shape)


def test_without_root_it_stays_who_it_is() -> None:
    gone = {"    chroot ../empty", "    uid 65534", "    gid 65534"}
    assert {*made().config.splitlines()} - {*made(root=False).config.splitlines()} == {
        *gone,
        f"    description {made().shape}",
    }


def test_the_maps_and_keys() -> None:
    texts = made().texts()
    assert texts["gateway.pem"] == "the certificate\nthe key\n"
    assert texts["ca.pem"] == "the ca\n"
    # Of gamma no gateway is known, of delta nothing: their listeners are closed at once.
    assert texts["egress.map"] == "20000 peer:beta\n20001 peer:beta\n"
    assert texts["names.map"] == (
        "20000 tcp-80-737a40b9f86be43d87f408a2bd3fbdde.beta.gateway.ubernetes.internal\n"
        "20001 tcp-80-97375646b1deb3d2d5c406cd15750035.beta.gateway.ubernetes.internal\n"
    )
    assert texts["ingress.map"] == (
        "probe.alpha.gateway.ubernetes.internal probe\n"
        "tcp-80-97375646b1deb3d2d5c406cd15750035.alpha.gateway.ubernetes.internal in:0\n"
    )
    assert texts["clients.map"] == "ubernetes:gateway:beta beta\nubernetes:gateway:gamma gamma\n"


def test_nothing_depends_on_the_order_of_the_plan() -> None:
    turned = GatewayPlan("alpha", PLAN.ingress, PLAN.egress[::-1], PLAN.peers[::-1])
    other = render(
        GatewayConfig("alpha", Path("unused")),
        turned,
        allocate(Allocation(), turned.egress),
        place((), turned.ingress)[:2],
        Certificate("the certificate", "the key", "the ca"),
    )
    assert other.texts() == made().texts()

"""Values that the chart must take: the examples that are there, and combinations that are drawn at random."""

import random
from typing import Any

from kube.chart import Values


def drawn(choose: random.Random) -> Values:
    """A combination that goes together."""

    def flip(chance: float = 0.5) -> bool:
        return choose.random() < chance

    def of(*options: Any) -> Any:
        return choose.choice(options)

    database = flip()
    scaled = database and flip()
    gateways = of(1, 2, 5) if database else 1
    several = scaled or gateways > 1
    redis = flip()
    models = of("image", "claim", "job", "operator")
    operated = models == "operator"
    tenants = operated and flip()
    hotpaths_scaled = not operated and flip()
    hotpaths = of(1, 3)
    files = not database or flip(0.7)
    one_node = ("ReadWriteOnce", "ReadWriteOncePod")
    shared = database and (several or flip())
    collector = flip()
    values: Values = {
        "images": {
            "registry": of("", "registry.example.com:5000/ai", "ghcr.io/somebody"),
            "tag": of("latest", "v1.2.3"),
            "pullSecrets": of([], ["one"], ["one", "two"]),
        },
        "models": {
            "from": models,
            "claim": "filled" if models == "claim" else "",
            "names": of(["a", "b"], ["all-minilm-l6-v2"]) if models == "job" or (not operated and flip()) else [],
            "volume": {
                "size": of("2Gi", "500M"),
                "accessMode": "ReadWriteMany"
                if hotpaths_scaled or hotpaths > 1
                else of("ReadWriteOnce", "ReadWriteMany"),
                "storageClass": of("", "fast"),
            },
        },
        "gateway": {
            "replicas": gateways,
            "autoscaling": {"enabled": scaled, "min": of(1, 3), "max": of(3, 9), "cpuPercent": of(50, 90)},
            "tenants": "" if tenants else of("", "my-tenants"),
            "persistence": {
                "enabled": files,
                "claim": of("", "mine"),
                "size": "1Gi",
                "accessMode": "ReadWriteMany" if shared else of(*one_node, *(() if database else ("ReadWriteMany",))),
                "storageClass": of("", "fast"),
            },
            "service": {
                "type": of("ClusterIP", "NodePort", "LoadBalancer"),
                "port": of(80, 443),
                "annotations": of({}, {"example.com/a": "b"}),
            },
            "tls": of("", "certificate"),
            "admin": "credential" if tenants else of("", "credential"),
            "drain": {"delaySeconds": of(0, 5, 30), "timeoutSeconds": of(1, 300, 3600)},
            "settings": of(
                {},
                {"GATEWAY_LOG_LEVEL": "warn", "GATEWAY_MAX_FILE_BYTES": "1073741824"},
                {"GATEWAY_JWT_ISSUER": 'https://issuer.example.com/"quoted": {{ nothing }}'},
            ),
        },
        "database": {"secret": "postgres" if database else "", "key": of("url", "uri")},
        "redis": {"secret": "redis" if redis else "", "countAlone": several and not redis},
        "hotpath": {
            "replicas": hotpaths,
            "autoscaling": {"enabled": hotpaths_scaled, "min": 1, "max": of(1, 8), "prometheus": flip()},
            "minReadySeconds": of(0, 40),
            "preStopSeconds": of(0, 10, 45),
            "drainSeconds": of(1, 300),
            "settings": {} if operated else of({}, {"HOTPATH_CACHE_BYTES": "2147483648"}),
            "resources": of({}, {"requests": {"cpu": "1500m"}}, {"limits": {"cpu": "8"}}),
        },
        "operator": {
            "replicas": of(1, 2),
            "tenants": tenants,
            "plans": of("", "my-plans") if tenants else "",
            "resources": of({}, {"limits": {"memory": "512Mi"}}),
        },
        "collector": {"enabled": collector, "traceRatio": of("0", "0.5", "1")},
        "networkPolicy": {
            "enabled": flip(0.8),
            "metricsFrom": of([], [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]),
            "clients": of(
                [], [{"namespaceSelector": {"matchLabels": {"team": "a"}}}, {"ipBlock": {"cidr": "192.0.2.0/24"}}]
            ),
            "hotpathTo": of([], [{"to": [{"podSelector": {"matchLabels": {"app": "tempo"}}}]}]),
        },
        "podMonitor": {"enabled": flip(), "interval": of("10s", "1m"), "labels": of({}, {"release": "prometheus"})},
    }
    return {
        name: values[name]
        for name in values
        if name in ("gateway", "database", "redis", "hotpath", "models", "operator") or flip(0.8)
    }

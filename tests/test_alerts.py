"""Every alert fires on made-up series that should raise it and is silent on those of a cluster that is well, by Prometheus' own `promtool`.

Debian has it in its package `prometheus`.
"""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from engine import metrics
from tests.manifests import clusters, named, platform

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="there is no promtool, which evaluates alerts")
OURS = {"component", "ray_cluster", "ray_group", "instance", "le"}  # labels of the scrape, and of a histogram
KUBERAY_GIVES = {"ray.io/cluster", "ray.io/group", "ray.io/node-type", "ray.io/is-ray-node"}  # labels of every pod of Ray
WATCH = 'job="endocurate/endocurate-watch", component="watch"'
HOUR = 60  # minutes, of which every sample below is one


def rules():
    return [rule for group in named(platform("small"), "PrometheusRule", "endocurate")["spec"]["groups"] for rule in group["rules"]]


def targets():
    board = json.loads(named(platform("small"), "ConfigMap", "endocurate-dashboard")["data"]["dashboard.json"])
    return [(f"{panel['title']}, {one['refId']}", one["expr"]) for panel in board["panels"] for one in panel["targets"]]


def ray(name, values, **labels):
    """A series of a Ray node as Prometheus has it, with the labels that monitoring/podmonitor.yaml gives."""
    told = {"component": "ingest", "ray_cluster": "ingest-x7k2p", "ray_group": "models", "instance": "10.1.0.7:8080"} | labels
    selector = ", ".join(f'{key}="{value}"' for key, value in told.items())
    return f"ray_{name}{{{selector}}}", values


def watcher(name, values, labels=""):
    return f'endocurate_{name}{{{WATCH}, ray_cluster="watch-9qk4d"{labels}}}', values


def up(values, cluster="watch-9qk4d"):
    return f'up{{{WATCH}, ray_cluster="{cluster}"}}', values


def kuberay(name, values, labels):
    return f'kuberay_{name}{{namespace="endocurate", {labels}}}', values


def status(name, told):
    return kuberay("job_deployment_status", "1x600", f'name="{name}", deployment_status="{told}"')


def tries(count, begins=""):
    labels = 'name="ingest", job_deployment_status="Retrying"'
    return [kuberay("job_execution_duration_seconds", f"{begins}90x120", f'{labels}, retry_count="{one}"') for one in range(count)]


def latencies(late):
    """A video a minute, of which one of ten waits for two hours where `late`."""
    of = {"60": 9 if late else 10, "3600": 9 if late else 10, "14400": 10, "+Inf": 10}
    return [watcher("latency_seconds_bucket", f"0+{count}x600", f', le="{edge}"') for edge, count in of.items()]


BUSY = ray("resources", "4x600", Name="CPU", State="USED")
CLUSTER = {"ray_cluster": "ingest-x7k2p"}
NODE = CLUSTER | {"instance": "10.1.0.7:8080"}
WATCHER = {"component": "watch"}
JOB = {"namespace": "endocurate", "name": "ingest"}
# {alert: what it is to tell of, the same a little better, minutes after which, and the labels of what fires}
CASES = {
    "EndocurateNothingMoves": (
        [BUSY, ray("data_output_rows", "0+5x60 300x540"), ray("train_report_total_blocked_time_s", "7x600", component="pretrain")],
        [BUSY, ray("data_output_rows", "0+5x600")],
        5 * HOUR,
        CLUSTER,
    ),
    "EndocurateGpusIdle": ([ray("node_gpus_utilization", "9x600")], [ray("node_gpus_utilization", "11x600")], 2 * HOUR, CLUSTER),
    "EndocurateMemoryNearlyFull": (
        [ray("node_mem_used", "93x600"), ray("node_mem_total", "100x600")],
        [ray("node_mem_used", "91x600"), ray("node_mem_total", "100x600")],
        HOUR,
        NODE,
    ),
    "EndocurateDiskNearlyFull": (
        [ray("node_disk_usage", "91x600"), ray("node_disk_free", "9x600")],
        [ray("node_disk_usage", "89x600"), ray("node_disk_free", "11x600")],
        HOUR,
        NODE,
    ),
    "EndocurateWorkersEndedForMemory": (
        [ray("memory_manager_worker_eviction_total", "_x55 1x600")],
        [ray("memory_manager_worker_eviction_total", "_x5 1x600")],
        HOUR,
        CLUSTER,
    ),
    "EndocurateJobFailed": ([status("ingest", "Failed")], [status("ingest", "Complete")], HOUR, JOB),
    "EndocurateJobRetries": (tries(3), tries(2), HOUR, JOB),
    "EndocurateWatcherMissing": ([status("watch", "Waiting")], [status("watch", "Running"), up("1x600")], HOUR, JOB | {"name": "watch"}),
    "EndocurateClusterNotProvisioned": (
        [kuberay("cluster_condition_provisioned", "1x600", 'name="ingest-x7k2p", condition="false"')],
        [kuberay("cluster_condition_provisioned", "1x600", 'name="ingest-x7k2p", condition="true"')],
        HOUR,
        JOB | {"name": "ingest-x7k2p"},
    ),
    "EndocurateWatcherNotReady": ([watcher("ready", "0x600")], [watcher("ready", "1x600")], HOUR, WATCHER),
    "EndocurateWatcherDown": ([up("0x600")], [up("1x600")], HOUR, WATCHER),
    "EndocurateWatcherBegunAnew": (
        [up("_x10 1x20", f"watch-{number}") for number in range(4)],
        [up("_x10 1x20", f"watch-{number}") for number in range(3)],
        HOUR,
        WATCHER,
    ),
    "EndocurateBacklogGrows": ([watcher("backlog_sources", "90+1x600")], [watcher("backlog_sources", "900-1x600")], 5 * HOUR, WATCHER),
    "EndocurateSourcesQuarantined": (
        [watcher("quarantined_sources", "2x90 3x90")],
        [watcher("quarantined_sources", "3x600")],
        100,
        WATCHER,
    ),
    "EndocurateStepsFail": ([watcher("failing_steps", "1x600")], [watcher("failing_steps", "0x600")], 2 * HOUR, WATCHER),
    "EndocurateVideoUnlike": ([watcher("drifted_sources", "1x600")], [watcher("drifted_sources", "0x600")], HOUR, WATCHER),
    "EndocurateTrainingWorth": ([watcher("training_worth", "1x600")], [watcher("training_worth", "0x600")], 2 * HOUR, WATCHER),
    "EndocurateLate": (latencies(late=True), latencies(late=False), 3 * HOUR, {}),
}
WELL = [
    *(one for _, well, _, _ in CASES.values() for one in well),
    *(
        ray(name, "1x600", **labels)
        for name, labels in {
            "node_gram_used": {},
            "node_cpu_count": {},
            "node_cpu_utilization": {},
            "object_store_memory": {"Location": "SPILLED"},
            "tasks": {"State": "RUNNING"},
            "actors": {"State": "ALIVE"},
            "train_report_total_blocked_time_s": {},
        }.items()
    ),
    ray("data_output_rows", "0+5x600", operator="DecodeFrames"),
    watcher("frames_total", "0+10x600", ', stage="DecodeFrames"'),
    watcher("videos_total", "0+1x600", ', reason="none"'),
    *(watcher(name, "0x600", ', reason="store"') for name in ("outages_total", "worker_ends_total")),
    watcher("failed_tries_total", "0x600"),
]


def promtool(folder, groups, cases):
    """What `promtool test rules` says of the cases (series, minutes, alert, labels of what fires or None); "" where all is as expected."""
    told = {rule["alert"]: rule for rule in groups}
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": groups}]}))
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in dict(series).items()],
            "alert_rule_test": [
                {"eval_time": f"{at}m", "alertname": alert, "exp_alerts": [] if fired is None else [fires(told[alert], fired)]}
            ],
        }
        for series, at, alert, fired in cases
    ]
    (folder / "tests.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}))
    asked = subprocess.run(["promtool", "test", "rules", str(folder / "tests.yaml")], capture_output=True, text=True)
    return "" if asked.returncode == 0 else asked.stdout + asked.stderr


def fires(rule, labels):
    """What Prometheus tells when the rule fires; its sentences name only labels that there are."""
    sentences = {
        name: re.sub(r"{{ \$labels\.(\w+) }}", lambda at: labels[at[1]], text) for name, text in rule.get("annotations", {}).items()
    }
    return {"exp_labels": labels | rule.get("labels", {}), "exp_annotations": sentences}


def test_every_alert_has_series_that_raise_it():
    assert {rule["alert"] for rule in rules()} == set(CASES)


@needs_promtool
@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_on_what_it_is_for_and_not_on_the_same_a_little_better(alert, tmp_path):
    ill, better, at, labels = CASES[alert]
    assert promtool(tmp_path, rules(), [(ill, at, alert, labels), (better, at, alert, None)]) == ""


@needs_promtool
def test_a_watcher_that_is_gone_is_down_for_a_day_and_three_failures_of_long_ago_are_no_retries(tmp_path):
    """A metric that ends, as that of a pod does, is looked back at."""
    gone = [up("1x30 _x600")]
    cases = [(gone, 2 * HOUR, "EndocurateWatcherDown", WATCHER), (gone, 26 * HOUR, "EndocurateWatcherDown", None)]
    old = [(name, "90x900") for name, _ in tries(3)]
    assert promtool(tmp_path, rules(), [*cases, (old, 8 * HOUR, "EndocurateJobRetries", None)]) == ""


@needs_promtool
def test_no_alert_fires_where_all_is_well(tmp_path):
    assert promtool(tmp_path, rules(), [(WELL, 8 * HOUR, alert, None) for alert in CASES]) == ""


@needs_promtool
@pytest.mark.parametrize("component", ["ingest", "watch"])
def test_every_panel_shows_something_of_the_component_that_is_chosen_and_nothing_of_another(component, tmp_path):
    asked = [(title, expr.replace("$component", component)) for title, expr in targets()]
    counted = [{"alert": title, "expr": f"count({expr}) > 0"} for title, expr in asked]
    of_watchers = {title: "endocurate_" in expr for title, expr in asked}
    shown = [(WELL, 8 * HOUR, title, {} if of_watchers[title] is (component == "watch") else None) for title, _ in asked]
    assert promtool(tmp_path, counted, shown) == ""


def test_what_is_told_apart_of_a_watcher_is_a_label_that_it_gives():
    for _, expression in [*((rule["alert"], rule["expr"]) for rule in rules()), *targets()]:
        given = [kind.labels for name, kind in metrics.KINDS.items() if name in expression]
        if given and "ray_" not in expression.replace("ray_cluster", ""):
            apart = {label for told in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for label in re.split(r", *", told) if label}
            matched = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", expression))
            assert apart | matched <= OURS | {label for labels in given for label in labels}, expression


def test_labels_of_the_scrape_are_made_of_labels_that_pods_have():
    worker = clusters("small")["ingest"]["workerGroupSpecs"][0]["template"]["metadata"]["labels"]
    there = {f"__meta_kubernetes_pod_label_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}" for name in (*worker, *KUBERAY_GIVES)}
    for name in ("endocurate", "endocurate-watch"):
        (endpoint,) = named(platform("small"), "PodMonitor", name)["spec"]["podMetricsEndpoints"]
        assert {label for one in endpoint["relabelings"] for label in one["sourceLabels"]} <= there

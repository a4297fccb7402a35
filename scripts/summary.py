"""Prints what landed: events, persons, merges, definitions, cohort members. Takes the seconds it took, if known."""

import os
import subprocess
import sys
import urllib.request


def postgres(sql):
    command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", os.environ["DATABASE_URL"], "-c", sql]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def clickhouse(sql):
    request = urllib.request.Request(
        f"{os.environ['CLICKHOUSE_URL']}/?database={os.environ['CLICKHOUSE_DB']}",
        data=sql.encode(),
        headers={
            "X-ClickHouse-User": os.environ["CLICKHOUSE_USER"],
            "X-ClickHouse-Key": os.environ["CLICKHOUSE_PASSWORD"],
        },
    )
    with urllib.request.urlopen(request) as answer:
        return answer.read().decode().strip()


def cohort_members():
    """Members of all dynamic cohorts, at the versions that readers are told."""
    shown = postgres("SELECT id, membership_version FROM cohorts WHERE membership_version IS NOT NULL").splitlines()
    members = 0
    for cohort, version in (row.split("|") for row in shown):
        count = f"SELECT uniqExact(person_id) FROM cohort_members WHERE cohort_id = '{cohort}' AND version = {version}"
        members += int(clickhouse(count))
    return f"{members} in {len(shown)} cohorts"


def main():
    rows = int(clickhouse("SELECT count() FROM events"))
    distinct = int(clickhouse("SELECT uniqExact(event_id) FROM events"))
    countries = clickhouse("SELECT uniqExact(country) FROM events WHERE country != ''")
    counted = ["persons", "person_distinct_ids", "processor_merges", "event_definitions", "property_definitions"]
    counts = postgres("SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in counted))
    persons, ids, merges, event_names, property_names = counts.split("|")
    lines = [
        ("events", f"{rows:,} rows, {distinct:,} distinct"),
        ("projects", clickhouse("SELECT uniqExact(project_id) FROM events")),
        ("countries", countries),
        ("persons", persons),
        ("distinct ids", ids),
        ("merges", merges),
        ("event names", event_names),
        ("property names", property_names),
        ("cohort members", cohort_members()),
    ]
    if len(sys.argv) > 1 and float(sys.argv[1]) > 0:
        lines.append(("rate", f"{rows / float(sys.argv[1]):,.0f} events/s, sending included"))
    print("\nWhat landed")
    for name, value in lines:
        print(f"  {name:<18} {value}")
    print()


main()

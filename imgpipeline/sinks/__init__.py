"""Copies the tables of each day into other systems: PostgreSQL, ClickHouse, OpenSearch, Elasticsearch, Meilisearch.

`protocol` has the contract and the tables, `configuration` reads which sinks exist, `exporting` compares versions and
copies the days that differ. Each other module is one sink. A sink decides nothing, and nothing waits for one.
"""

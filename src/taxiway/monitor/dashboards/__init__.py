"""Dashboards for Grafana, made of typed panels, and what is dead in anybody's.

In: what is shown, as panels with queries; or the JSON of any dashboard.
Out: JSON that Grafana provisions as it is; the queries that find nothing, and what their metrics are called now.
Never: a query whose metric nobody exposes.
Read: panels.py and boards.py, then grafana.py; checking.py stands alone.
"""

"""What a cluster is described by, as plain values: image, Kubernetes objects, `ray up`, alerts, dashboard.

Every module takes a `site.Site` (or nothing) and gives dicts or text; none touches a file: `cluster.manifests.command`
does.
"""

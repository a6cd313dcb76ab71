"""What several tests share: studies, servers, clusters, paths. On the path of pytest and of the benches."""

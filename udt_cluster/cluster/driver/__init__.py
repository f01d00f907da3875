"""What runs once for each job, on the cluster: its stages in order, its attempts, its preparation and scores."""

"""LeRobotDataset v3.0: frames in parquet, metadata in ``meta``, videos in mp4."""

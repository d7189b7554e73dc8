"""What people look at after a run: video files, contact sheets, a report page, a summary."""

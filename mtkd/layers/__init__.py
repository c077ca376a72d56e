"""Parts that teachers and student share."""

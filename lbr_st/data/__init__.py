"""Any domain's text in, one question-answer format out: `prepare` is the pipeline, the other modules its steps."""

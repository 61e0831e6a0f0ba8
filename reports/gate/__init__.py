"""What the gate says: on a terminal, as JUnit, as Markdown, and as a page with pictures."""

"""Jobs made of what other schedulers and build systems were told: crontabs, Jenkins, GitHub's workflows.

Each reader returns drafts and remarks. What can be said in a header is said; all else is a remark with
its place, and a comment in the draft where a person will meet it. Nothing is left out in silence.
"""

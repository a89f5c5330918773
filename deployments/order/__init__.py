"""Who goes next at each stage, live: lines of waiting calls, their seconds, and the actor that pipeline replicas share.

The judgement itself is `cluster.policy.order`; see "The order of calls" in deployments/README.md.
"""

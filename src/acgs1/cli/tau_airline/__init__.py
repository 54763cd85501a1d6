"""The governor in front of the airline agent of tau-bench (Sierra, MIT), whose tools check nothing.

The data is read from a folder that the user names; none of it is part of this package. The constitution, the schema and the policies here
are ours, written from the policy that comes with the data.
"""

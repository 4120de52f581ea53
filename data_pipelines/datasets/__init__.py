"""Published hand data sets as TFDS data sets of hand records: one builder a file, on the base in `builder`.

Nothing is downloaded: most of these data sets ask everyone to accept their terms. A user unpacks what its pages give
and names the folder; what is missing there is said by name.
"""

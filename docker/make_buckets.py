"""Make the buckets that are named on the command line, unless they are there."""

import os
import sys

import boto3
from botocore.exceptions import ClientError

_THERE = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")


def main(names: list[str]) -> int:
    """Make each; S3_ENDPOINT and AWS_* say where and as whom."""
    client = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"])
    for name in names:
        try:
            client.create_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _THERE:
                raise
        print(f"bucket {name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

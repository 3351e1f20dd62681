"""A child for tests: answers with what it is asked, after as many seconds as it is told."""

import time

from pipeline.children import serve


def answer(request):
    value, seconds = request
    time.sleep(seconds)
    if value == "fail":
        raise ValueError("with alice@example.com in it")
    return value


if __name__ == "__main__":
    serve(answer)

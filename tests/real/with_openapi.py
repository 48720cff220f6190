"""The admin API's document, held against the standard and against a gateway that runs.

usage: with_openapi.py     with WEIR_ADMIN, WEIR_TOKEN, and WEIR_ASK, a JSON list of
                           [path in the document, path to ask]

Prints how many answers were compared. Every answer must be as the document says it, and no member of it
may be missing there: a schema that allows everything would prove nothing.
"""

import copy
import json
import os
import sys
import urllib.request

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

ADMIN, TOKEN = os.environ["WEIR_ADMIN"], os.environ["WEIR_TOKEN"]


def ask(path):
    request = urllib.request.Request(ADMIN + path, headers={"authorization": "Bearer " + TOKEN})
    with urllib.request.urlopen(request, timeout=60) as answer:
        kind = answer.headers.get_content_type()
        return answer.status, kind, answer.read()


def strict(node):
    """Closes every object that names its members, except those that say that there may be more."""
    if isinstance(node, dict):
        named = "properties" in node or "allOf" in node
        if named and "additionalProperties" not in node:
            node.setdefault("unevaluatedProperties", False)
        for value in node.values():
            strict(value)
    elif isinstance(node, list):
        for value in node:
            strict(value)


def main():
    _, _, body = ask("/api/v1/openapi.json")
    document = json.loads(body)
    problems = [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()]
    for operations in document["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values():
                for content in response.get("content", {}).values():
                    Draft202012Validator.check_schema(content["schema"])
    closed = copy.deepcopy(document)
    strict(closed["components"]["schemas"])
    compared = 0
    for path, asked in json.loads(os.environ["WEIR_ASK"]):
        status, kind, body = ask(asked)
        responses = document["paths"][path]["get"]["responses"]
        content = responses[str(status)]["content"]
        if kind not in content:
            problems.append(f"{asked}: {kind} is not one of {list(content)}")
            continue
        if kind != "application/json":
            compared += 1
            continue
        schema = dict(content[kind]["schema"], components=closed["components"])
        found = sorted(Draft202012Validator(schema).iter_errors(json.loads(body)), key=str)
        problems += [f"{asked}: {error.json_path}: {error.message[:300]}" for error in found[:5]]
        compared += 1
    for problem in problems:
        print(problem, file=sys.stderr)
    print(json.dumps({"compared": compared, "problems": len(problems)}))
    sys.exit(1 if problems else 0)


main()

"""What stands around the code: workflows, forms and pages that name what exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import tubelet

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
SCHEMAS = {
    "vendor.github-workflows": sorted((GITHUB / "workflows").glob("*.yml")),
    "vendor.github-issue-forms": [
        GITHUB / "ISSUE_TEMPLATE" / n for n in ("bug.yml", "feature.yml")
    ],
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
    "vendor.dependabot": [GITHUB / "dependabot.yml"],
    "vendor.citation-file-format": [ROOT / "CITATION.cff"],
}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_schemas(schema):
    """check-jsonschema carries GitHub's and the citation format's schemas; nothing is fetched."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    done = subprocess.run([*command, *map(str, SCHEMAS[schema])], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def steps(path):
    jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("path", SCHEMAS["vendor.github-workflows"], ids=lambda p: p.name)
def test_workflows_run_what_exists(path):
    for step in steps(path):
        command = step.get("run", "")
        for target in re.findall(r"\bmake ([a-z]+)", command):
            assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target
        for test in re.findall(r"\btests/\S+", command):
            assert (ROOT / test).exists(), f"{path.name}: {test}"


@pytest.mark.parametrize("path", SCHEMAS["vendor.github-workflows"], ids=lambda p: p.name)
def test_workflows_have_no_more_rights_than_they_need(path):
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        writes = {name for name, right in job["permissions"].items() if right == "write"}
        assert writes <= {"id-token", "pages"}
        assert job["timeout-minutes"] <= 60


def test_the_release_is_built_from_what_its_tag_names():
    runs = [step.get("run", "") for step in steps(GITHUB / "workflows" / "release.yml")]
    uses = [step.get("uses", "") for step in steps(GITHUB / "workflows" / "release.yml")]
    assert any("GITHUB_REF_NAME" in run for run in runs)
    assert any(use.startswith("pypa/gh-action-pypi-publish@") for use in uses)
    assert not any("secrets." in run for run in runs)


def test_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == tubelet.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"## {citation['version']} ({citation['date-released']})" in changelog


def test_forms_ask_for_the_check():
    for form in ("ISSUE_TEMPLATE/bug.yml", "pull_request_template.md"):
        assert "`tubelet check`" in (GITHUB / form).read_text("utf-8")

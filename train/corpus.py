#!/usr/bin/env python3
"""Builds the byte corpus that headway-train reads: C, Python and English documentation.

Owns: fetching Debian source packages, judging licences, cleaning, the split into training and
held-out files, the manifest. Does not own: tokens or batches (train/ reads the bytes as they are).
Called by a person: python3 train/corpus.py --out build/corpus

A corpus file is documents one after another, each followed by one NUL byte, which the trainer reads
as the end of a document. The same package versions and options always give the same bytes.
"""
import argparse
import collections
import fnmatch
import gzip
import hashlib
import html
import json
import os
import pathlib
import posixpath
import re
import subprocess
import sys
import tarfile

KINDS = ("c", "python", "prose")
SHARE = {"c": 0.40, "python": 0.35, "prose": 0.25}
CAP = {"c": 1.3, "python": 6, "prose": 6}  # MB from a package of weight 1, so that none dominates
MB = 1_000_000
MIN_FILE, MAX_FILE = 200, 512 * 1024
HELD_OUT_LIMIT = MB  # bytes of each kind
PACKAGE_LIST = pathlib.Path(__file__).with_name("corpus_packages.json")

# ---- licences -----------------------------------------------------------------------------------

# Debian's short names vary freely ("BSD-3-clause-Intel", "MIT/X11"), so a name is known by its
# start. What is not known here counts as not permissive.
PERMISSIVE = re.compile(
    r"(0bsd|afl|apache|asl|beerware|blessing|boost|bsd|bsl|cc0|cc-?by-[234]|curl|dom4j|expat"
    r"|freetype|ftl|ftp|historical|hpnd|ijg|imagemagick|isc|libpng|lua|mit|mpich|ncsa|nginx|ntp"
    r"|openldap|openssl|permissive|php|postgresql|psf|public|pd\b|python|ruby|sgi|ssleay|tcl"
    r"|unicode|unlicense|vim|wtfpl|x11|zlib|zpl)", re.I)
COPYLEFT = re.compile(r"gpl|gfdl|mpl|epl|cddl|-sa\b|-n[cd]\b|artistic|restricted", re.I)
GPL_HEADER = re.compile(rb"GNU\s+(\w+\s+)?General\s+Public|SPDX[^\n]*GPL|\b[AL]?GPL(v?[23])?\b")


def licence_is_permissive(name):
    """Whether a name such as "Expat and (BSD-3-clause or GPL-2+)" leaves us a permissive choice."""
    def known(part):
        part = part.strip(" ()")
        return bool(PERMISSIVE.match(part)) and not COPYLEFT.search(part)
    name = re.sub(r",\s*or\s+", " or ", name.strip())
    parts = filter(None, re.split(r"\s+and\s+|\s*[,&]\s*(?:and\s+)?", name))
    return all(any(map(known, re.split(r"\s+or\s+|\s*\|\s*", part))) for part in parts)


class Licences:
    """What debian/copyright says: (pattern, short name) for each path, the last match wins."""

    def __init__(self, copyright_text, by_hand):
        self.rules = [(re.compile(".*"), by_hand)] if by_hand else []
        for paragraph in re.split(r"\n\s*\n", copyright_text.replace("\r", "")):
            fields = dict(re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", paragraph, re.M))
            if "Files" in fields and "License" in fields:
                name = fields["License"].strip().split("\n")[0]
                for glob in fields["Files"].replace(",", " ").split():
                    self.rules.append((re.compile(fnmatch.translate(glob)), name))

    def of(self, path):
        return next((name for rule, name in reversed(self.rules) if rule.match(path)), "")

    def main(self):
        return self.of("\x01")  # only a bare * matches this name


# ---- Debian -------------------------------------------------------------------------------------

class CorpusError(Exception):
    """One sentence for the person at the terminal: what is wrong, where, what to do."""


class Debian:
    """A private apt: its own source list, indexes and downloads, so the system's stay untouched."""

    def __init__(self, out, suites):
        root = (out / "apt").resolve()
        self.suites = suites
        self.downloads = (out / "downloads").resolve()
        for part in ("parts", "lists/partial", "cache/archives/partial"):
            (root / part).mkdir(parents=True, exist_ok=True)
        self.downloads.mkdir(parents=True, exist_ok=True)
        (root / "parts/source.sources").write_text(
            "Types: deb-src\nURIs: http://deb.debian.org/debian\nComponents: main\n"
            f"Suites: {' '.join(suites)}\n"
            "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n")
        options = {"Dir::Etc::SourceList": "/dev/null", "Dir::Etc::SourceParts": root / "parts",
                   "Dir::State::Lists": root / "lists", "Dir::Cache": root / "cache",
                   "APT::Sandbox::User": "root"}  # the folder may be closed to the user _apt
        self.command = ["apt-get", "-q"]
        for key, value in options.items():
            self.command += ["-o", f"{key}={value}"]

    def run(self, arguments, folder):
        done = subprocess.run(self.command + arguments, cwd=folder, capture_output=True, text=True)
        lines = [x for x in done.stderr.splitlines() if x.startswith("E:")]
        return None if done.returncode == 0 else (lines or [f"status {done.returncode}"])[0]

    def update(self):
        wrong = self.run(["update"], self.downloads)
        if wrong:
            raise CorpusError(f"apt-get update failed ({wrong}): check the network and that "
                              "/usr/share/keyrings/debian-archive-keyring.gpg is installed.")

    def fetch(self, package):
        """Downloads one source package from the first suite that has all its files; apt checks
        signatures and hashes, also of files kept from an earlier run. Returns (suite, folder)."""
        wrong = []
        for suite in self.suites:
            folder = self.downloads / suite / package
            folder.mkdir(parents=True, exist_ok=True)
            wrong.append(self.run(["source", "--download-only", "--only-source",
                                   f"{package}/{suite}"], folder))
            if not wrong[-1]:
                return suite, folder
        raise CorpusError(f"apt-get source failed ({wrong[0]})")


def read_tar(path, wanted):
    """The wanted regular files of a tarball as {path: bytes}, without the common top folder.
    Nothing is written to disk, so a hostile path can do no harm; it is ignored."""
    files, tops = {}, set()
    with tarfile.open(path, "r:*") as tar:
        for member in tar:
            name = posixpath.normpath(member.name)
            if name.startswith(("/", "../")) or name in (".", ".."):
                continue
            tops.add((name + "/").split("/")[0] if member.isdir() or "/" in name else name + "/")
            if member.isreg() and member.size <= MAX_FILE and wanted(name):
                files[name] = tar.extractfile(member).read()
    if len(tops) == 1:
        files = {name.split("/", 1)[-1]: data for name, data in files.items()}
    return files


def read_package(folder):
    """(version, files, debian/copyright, sha256 by name) of a downloaded source package."""
    dsc = sorted(folder.glob("*.dsc"), key=lambda p: p.stat().st_mtime)[-1]
    text = dsc.read_text(errors="replace")
    version = re.search(r"^Version: (\S+)", text, re.M)[1]
    checksums = re.search(r"^Checksums-Sha256:((?:\n .*)+)", text, re.M)[1]
    names = sorted(line.split()[2] for line in checksums.strip().splitlines())
    files, copyright_text = {}, ""
    for name in names:
        component = re.search(r"\.orig(?:-([\w.-]+))?\.tar\.\w+$", name)
        if component:
            prefix = component[1] + "/" if component[1] else ""
            for path, data in read_tar(folder / name, kind_of).items():
                files[prefix + path] = data
        elif ".debian.tar." in name:
            found = read_tar(folder / name, lambda path: path == "debian/copyright")
            copyright_text = b"".join(found.values()).decode("utf-8", "replace")
        elif name.endswith(".diff.gz"):  # source format 1.0: one patch holds the debian folder
            patch = gzip.decompress((folder / name).read_bytes()).decode("utf-8", "replace")
            hunk = re.search(r"^\+\+\+ \S+/debian/copyright\b.*\n@@.*\n((?:\+.*\n)*)",
                             patch, re.M)
            copyright_text = re.sub(r"^\+", "", hunk[1], flags=re.M) if hunk else ""
    hashes = {name: sha256((folder / name).read_bytes()) for name in [dsc.name] + names}
    return version, files, copyright_text, hashes


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# ---- cleaning -----------------------------------------------------------------------------------

PROSE_NAMES = re.compile(r"(readme|install|hacking|contributing|tutorial|faq)[^/]*$", re.I)
JUNK_NAMES = re.compile(
    r"(cmakelists|requirements|constraints|sources|top_level|entry_points|changelog|changes"
    r"|licen[cs]e|copying|copyright|notice|authors|contributors|credits|thanks|maintainers|backers"
    r"|code_?of_?conduct)[^/]*$|.*(unicode|_tab(le)?s?\.|wordlist|amalgamation|\.min\.).*$", re.I)
JUNK_FOLDERS = re.compile(  # others' code under unknown licences, translations, data, build outputs
    r"(^|/)(third[-_]?party|3rdparty|vendor(ed)?|_?vendor|_vendored?|node_modules|extern(al)?s?"
    r"|bundled|locales?|translations?|i18n|po|test[-_]?data|fixtures?|snapshots?|golden|corpus"
    r"|NEWS\.d|generated|clinic|_sources|licen[cs]es?|rubi/rules|debian)/", re.I)
TEST_FOLDER = re.compile(r"(^|/)(tests?|testing|testsuite|regress|spec|data)/", re.I)
GENERATED = re.compile(
    rb"do not (edit|modify|change)|auto-?generated|@generated"
    rb"|generated (by|from|automatically|with)|automatically (generated|created)"
    rb"|machine[- ]generated|produced by|created by SWIG", re.I)
GENERATED_PROSE = re.compile(rb"do not edit|auto-?generated", re.I)  # the rest are plain English
CPLUSPLUS = re.compile(
    rb"^\s*(class\s+\w+\s*(;|\{|:[^:])|namespace\s+\w*\s*\{|template\s*<|public:|private:)"
    rb"|\bstd::", re.M)
STOP_WORDS = frozenset(
    b"the of and to in is a that for it be with are this on as you can by not or if".split())


def kind_of(path):
    """c, python, prose, or None for a file that the corpus does not want."""
    name = posixpath.basename(path)
    if JUNK_NAMES.match(name) or JUNK_FOLDERS.search(path):
        return None
    extension = posixpath.splitext(name)[1].lower()
    if extension in (".c", ".h"):
        return "c"
    if extension == ".py":
        return "python"
    if extension == ".txt" and TEST_FOLDER.search(path):
        return None
    if extension in (".rst", ".md", ".txt", ".pod", ".adoc", ".markdown", ".sgml"):
        return "prose"
    return "prose" if not extension and PROSE_NAMES.match(name) else None


def strip_sgml(data):
    """DocBook text without its tags."""
    text = re.sub(r"<!--.*?-->|<indexterm.*?</indexterm>|<[^>]*>", "", data.decode(), flags=re.S)
    text = re.sub(r"^[ \t]+(?=\S)", "", html.unescape(text), flags=re.M)
    return text.replace("\0", "").encode()


def tidy(data):
    """LF line ends, no trailing white space, at most two blank lines in a row."""
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\f", b"").split(b"\n")
    text = b"\n".join(line.rstrip() for line in lines).removeprefix(b"\xef\xbb\xbf")
    return re.sub(rb"\n{4,}", b"\n\n\n", text).strip(b"\n") + b"\n"


LEADING_COMMENT = {
    "c": re.compile(rb"\s*(/\*.*?\*/[ \t]*\n?|(?://[^\n]*\n)+)", re.S),
    "python": re.compile(rb"\s*((?:#[^\n]*\n)+)"),
    "prose": re.compile(
        rb"\s*(<!--.*?-->\n?|\.\.(?: [^\n]*)?\n(?:[ \t]+[^\n]*\n|\n(?=[ \t]))*|(?:# [^\n]*\n){3,})",
        re.S),
}
IS_LICENCE = re.compile(rb"copyright|licen[cs]e", re.I)
IS_LEGALESE = re.compile(
    rb"warrant|redistribut|SPDX|all rights reserved|(licensed|distributed) under|permission"
    rb"|\(c\)|copyright \d", re.I)


def leading_comments(data, kind):
    """Spans of the comments that stand before anything else."""
    at, spans = 0, []
    while match := LEADING_COMMENT[kind].match(data, at):
        spans.append(match.span(1))
        at = match.end()
    return spans


def strip_licence(data, kind):
    """Without the leading comments that are licences: else the model learns mostly those."""
    for start, end in reversed(leading_comments(data, kind)):
        comment = data[start:end]
        if IS_LICENCE.search(comment) and IS_LEGALESE.search(comment):
            keep = re.match(rb"#![^\n]*\n", comment) if start == 0 else None
            data = data[:start] + (keep[0] if keep else b"") + data[end:]
    return data.lstrip(b"\n")


def why_not(data, kind):
    """The reason to leave a tidied file out, or None."""
    if not MIN_FILE <= len(data) <= MAX_FILE:
        return "size"
    lines = data.split(b"\n")
    longest, mean = (1000, 100) if kind != "prose" else (2000, 300)
    if max(map(len, lines)) > longest or len(data) > mean * len(lines):
        return "long lines"
    dense = b"".join(data.split())
    letters = len(re.findall(rb"[A-Za-z_]", dense)) / len(dense)
    digits = len(re.findall(rb"[0-9]", dense)) / len(dense)
    if letters < (0.7 if kind == "prose" else 0.55) or digits > 0.15:
        return "mostly digits or punctuation"
    if kind == "c" and CPLUSPLUS.search(data):
        return "C++"
    if kind == "prose":
        words = re.findall(rb"[a-z]+", data.lower())
        if sum(word in STOP_WORDS for word in words) < 0.15 * len(words):
            return "not English prose"
    return None


def clean(path, data, kind):
    """(text, None) or (None, reason)."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return None, "not UTF-8"
    if b"\0" in data:
        return None, "binary"
    prose = kind == "prose"
    if GPL_HEADER.search(data[:1500 if prose else 4000]):
        return None, "GPL header"
    if (GENERATED_PROSE if prose else GENERATED).search(data[:1500]):
        return None, "generated"
    if path.endswith(".sgml"):
        data = strip_sgml(data)
    if path.endswith(".pod"):
        data = re.sub(rb"^=head1 COPYRIGHT.*?(?=^=|\Z)", b"", data, flags=re.M | re.S)
    data = strip_licence(tidy(data), kind)
    reason = why_not(data, kind)
    return (None, reason) if reason else (data, None)


class Seen:
    """Remembers what was kept, to refuse copies and near-copies."""
    COMMON = 0.6  # a file with more of its lines known already is a near-copy

    def __init__(self):
        self.texts, self.lines = set(), set()

    def admit(self, data):
        whole = hashlib.sha256(b"".join(data.split())).digest()
        # Short lines ("return NULL;") are everybody's and say nothing about copying.
        own = {hashlib.blake2b(line, digest_size=8).digest()
               for line in map(bytes.strip, data.split(b"\n")) if len(line) >= 16}
        if whole in self.texts or len(own & self.lines) > self.COMMON * len(own):
            return False
        self.texts.add(whole)
        self.lines |= own
        return True


# ---- the corpus ---------------------------------------------------------------------------------

Document = collections.namedtuple("Document", "key package path kind data")


def key_of(package, path):
    """Decides order, sampling and split; the name alone counts, so it stays when others change."""
    return hashlib.sha256(f"{package}/{path}".encode()).digest()


def take(documents, limit):
    """The documents with the smallest keys that fit in limit bytes: a stable sample. As the keys
    are the same for every limit, a package cut by its cap is hardly cut again for the whole."""
    taken, size = [], 0
    for document in sorted(documents):
        if size + len(document.data) <= limit:
            taken.append(document)
            size += len(document.data)
    return taken


def collect(package, spec, debian, seen):
    """(documents, manifest entry) of one package, or CorpusError with the reason to skip it."""
    suite, folder = debian.fetch(package)
    version, files, copyright_text, hashes = read_package(folder)
    licences = Licences(copyright_text, spec.get("licence"))
    if not licences.rules:
        raise CorpusError("its debian/copyright is not machine-readable; read it and state "
                          f"the licence in {PACKAGE_LIST.name}")
    main = licences.main()
    if main and not licence_is_permissive(main):
        raise CorpusError(f"its main licence is {main}, which is not on the permissive list")
    kept, dropped = {kind: [] for kind in KINDS}, collections.Counter()
    for path in sorted(files):
        kind = kind_of(path)
        licence = licences.of(path)
        if kind not in spec.get("kinds", KINDS):
            continue
        if not licence_is_permissive(licence) or not licence:
            dropped["licence: " + licence] += 1
            continue
        text, reason = clean(path, files[path], kind)
        if text and not seen.admit(text):
            text, reason = None, "near-copy"
        if text:
            kept[kind].append(Document(key_of(package, path), package, path, kind, text))
        else:
            dropped[reason] += 1
    documents = []
    for kind in KINDS:
        weight = spec.get("weight", {}).get(kind, 1)
        documents += take(kept[kind], int(CAP[kind] * weight * MB))
    entry = {"suite": suite, "version": version,
             "licence": main or sorted({name for _, name in licences.rules}),
             "licence_read_by": "debian/copyright" if main != spec.get("licence") else "hand",
             "downloads": hashes, "left_out": dict(sorted(dropped.items()))}
    return documents, entry


def split(documents):
    """(training, held-out): about 1 % of the files by key, at most HELD_OUT_LIMIT bytes a kind."""
    held_out = []
    for kind in KINDS:
        chosen = [d for d in documents if d.kind == kind and key_of("held-out", d.key.hex())[0] < 3]
        held_out += take(chosen, HELD_OUT_LIMIT)
    names = {d.key for d in held_out}
    return [d for d in documents if d.key not in names], held_out


def count(documents):
    return {kind: {"files": sum(d.kind == kind for d in documents),
                   "bytes": sum(len(d.data) + 1 for d in documents if d.kind == kind)}
            for kind in KINDS}


def write(path, documents):
    """Writes documents in key order, which mixes kinds and packages evenly."""
    temporary = path.with_suffix(".part")
    digest = hashlib.sha256()
    with temporary.open("wb") as file:
        for document in sorted(documents):
            digest.update(document.data + b"\0")
            file.write(document.data + b"\0")
    os.replace(temporary, path)
    return {"bytes": path.stat().st_size, "files": len(documents), "sha256": digest.hexdigest()}


def build(options):
    options.out.mkdir(parents=True, exist_ok=True)
    specs = json.loads(options.packages.read_text())
    debian, seen = Debian(options.out, options.suites), Seen()
    debian.update()
    documents, packages = [], {}
    for package, spec in specs.items():
        try:
            found, packages[package] = collect(package, spec, debian, seen)
        except (CorpusError, OSError, tarfile.TarError) as error:
            print(f"corpus: {package} is left out: {error}", file=sys.stderr)
            continue
        documents += found
        sizes = " ".join(f"{k} {v['bytes'] / MB:.1f}" for k, v in count(found).items())
        print(f"{package} {packages[package]['version']}: {sizes} MB", flush=True)
    if not documents:
        raise CorpusError("no package could be read; see the lines above for each one's reason.")
    documents = [d for kind in KINDS for d in take([d for d in documents if d.kind == kind],
                                                   int(options.max_mb * SHARE[kind] * MB))]
    train, held_out = split(documents)
    outputs = {"train.bin": train, "held-out.bin": held_out,
               "held-out-code.bin": [d for d in held_out if d.kind != "prose"],
               "held-out-prose.bin": [d for d in held_out if d.kind == "prose"]}
    for package, entry in packages.items():
        entry["train"] = count([d for d in train if d.package == package])
        entry["held_out"] = count([d for d in held_out if d.package == package])
    written = {name: write(options.out / name, docs) for name, docs in outputs.items()}
    manifest = {"packages": packages, "train": count(train), "held_out": count(held_out),
                "outputs": written}
    (options.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    for name in ("train", "held_out"):
        print(name, json.dumps(manifest[name]))


def main():
    parser = argparse.ArgumentParser(
        description="Builds headway's training corpus from Debian source packages.")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/corpus"),
                        help="folder for corpus, manifest and downloads (default: %(default)s)")
    parser.add_argument("--packages", type=pathlib.Path, default=PACKAGE_LIST,
                        help="JSON list of packages (default: corpus_packages.json beside this)")
    parser.add_argument("--suites", nargs="+", default=["bookworm", "trixie"],
                        help="Debian releases to look in, in this order (default: %(default)s)")
    parser.add_argument("--max-mb", type=float, default=240,
                        help="size of the whole corpus in MB (default: %(default)s)")
    options = parser.parse_args()
    try:
        build(options)
    except (CorpusError, OSError, ValueError) as error:
        sys.exit(f"corpus: {error}")


if __name__ == "__main__":
    main()

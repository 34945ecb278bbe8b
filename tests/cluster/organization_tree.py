"""A tree of organizations with many users, as a file, and those users on the machines of a sandbox."""

from tests.sandbox.cluster import Sandbox
from tests.sandbox.shape import GROUP_ID


def tree(organizations: int, users: int, gpus: int) -> str:
    """Return a file of organizations, each with a part of the users."""
    text = "[organizations.nlp.users]\nbob = {}\ncarol = {}\n[organizations.vision.users]\nalice = {}\ncarol = {}\n"
    for number in range(organizations):
        text += f'[organizations.group{number}]\ngpus = {gpus}\nmem = "64G"\ngpu-hours = 100\nmax-time = "2-0"\n'
        text += "no-decay = true\n" if number == 0 else ""
        text += f'parent = "group{number - 1}"\n' if number == 2 else ""
        text += f"[organizations.group{number}.users]\n"
        each = range(number * users // organizations, (number + 1) * users // organizations)
        text += "".join(f"member{one} = {{ gpus = 2 }}\n" for one in each)
    return text


def add_members(sandbox: Sandbox, number: int) -> None:
    """Have the machines of the cluster know so many users."""
    passwd = sandbox.folder / "etc" / "passwd"
    known = passwd.read_text()
    with passwd.open("a") as file:
        for one in range(number):
            if f"member{one}:" not in known:
                file.write(f"member{one}:x:{30000 + one}:{GROUP_ID}::/tmp:/bin/sh\n")

"""Chromium, driven through its own protocol: pages in files, and in the frames of a page of a running server."""

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--disable-features=IsolateSandboxedIframes",
)  # fmt: skip
PATIENCE = 120
"""Seconds for a page to load and draw; a first visit compiles MLflow's pages."""


class Tab:
    """One tab. told: what its console showed, of all the pages that it visited."""

    def __init__(self, socket: "aiohttp.ClientWebSocketResponse") -> None:
        self.socket = socket
        self.sent = 0
        self.frames: set[int] = set()
        self.told: list[str] = []

    @property
    def errors(self) -> list[str]:
        """What the console of a page made of a blob showed, as MLflow shows artifacts."""
        return [told for told in self.told if "blob:" in told]

    async def ask(self, method: str, **params: Any) -> Any:
        """Send a command, take what happens until its answer comes, and return the answer."""
        self.sent += 1
        await self.socket.send_json({"id": self.sent, "method": method, "params": params})
        while (message := json.loads((await self.socket.receive()).data)).get("id") != self.sent:
            told = message["params"]
            if message["method"] == "Runtime.executionContextCreated":
                self.frames.add(told["context"]["id"])
            elif message["method"] == "Runtime.executionContextDestroyed":
                self.frames.discard(told["executionContextId"])
            elif message["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
                self.told.append(json.dumps(told)[:500])
        return message.get("result", {})

    async def run(self, code: str, **more: Any) -> Any:
        """The value of an expression in the page, or in a frame of it (contextId), as if a person had clicked it."""
        how = {"awaitPromise": True, "returnByValue": True, "userGesture": True, **more}
        answer = await self.ask("Runtime.evaluate", expression=code, **how)
        return answer.get("result", {}).get("value")

    async def open(self, page: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Show a file in a window of this size, and wait for its script to end."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        await self.ask("Emulation.setFocusEmulationEnabled", enabled=True)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.ask("Emulation.setEmulatedMedia", media="", features=scheme)
        await self.ask("Page.navigate", url=page.as_uri())
        end = time.monotonic() + PATIENCE
        while await self.run("document.documentElement.dataset.ready") != "yes" and time.monotonic() < end:
            await asyncio.sleep(0.05)

    async def count(self, address: str, selector: str) -> int:
        """How many elements a page that stands in a frame of the page at the address has, once there are any."""
        await self.ask("Page.navigate", url="about:blank")
        await self.ask("Page.navigate", url=address)
        found, end = 0, time.monotonic() + PATIENCE
        code = f"location.protocol == 'blob:' ? document.querySelectorAll({json.dumps(selector)}).length : 0"
        while time.monotonic() < end:
            await asyncio.sleep(1)
            before = found
            counts = [await self.run(code, contextId=frame) for frame in {*self.frames}]
            found = max((count or 0 for count in counts), default=0)
            if found and found == before:
                break
        return found


@asynccontextmanager
async def opened_tab(profile: Path) -> AsyncIterator[Tab]:
    """A tab of a browser of its own."""
    words = [str(CHROMIUM), *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as browser:
        try:
            assert browser.stderr is not None
            port = next(found[1] for line in browser.stderr if (found := re.search(r"ws://127\.0\.0\.1:(\d+)/", line)))
            async with aiohttp.ClientSession() as session:
                pages = await (await session.get(f"http://127.0.0.1:{port}/json/list")).json()
                place = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
                tab = Tab(await session.ws_connect(place, max_msg_size=0))
                for domain in ("Page", "Runtime", "Log"):
                    await tab.ask(f"{domain}.enable")
                yield tab
        finally:
            browser.terminate()


def counts_in_frames(addresses: Sequence[str], selector: str, profile: Path) -> tuple[list[int], list[str]]:
    """For each address how many elements a page framed there has, and the errors of those pages."""

    async def counts() -> tuple[list[int], list[str]]:
        async with opened_tab(profile) as tab:
            return [await tab.count(address, selector) for address in addresses], tab.errors

    return asyncio.run(counts())

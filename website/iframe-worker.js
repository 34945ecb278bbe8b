// Browsers start no worker for a page that is opened from a file: there an iframe of the page does what it would do.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.frame.srcdoc = "<!doctype html><title>search</title>"
      // messages wait for it, and arrive as those of a worker do: not while the sender still runs
      this.inner = new Promise((resolve, reject) => {
        this.frame.onload = () => {
          const inner = this.frame.contentWindow
          inner.postMessage = data => setTimeout(() => this.onmessage?.({ data: structuredClone(data) }))
          const script = inner.document.createElement("script")
          script.src = url
          script.onload = () => resolve(inner)
          script.onerror = reject
          inner.document.head.append(script)
        }
      })
      this.inner.catch(error => this.onerror?.(error))
      document.documentElement.append(this.frame)
    }
    postMessage(data) {
      data = structuredClone(data)
      this.inner.then(inner => inner.onmessage({ data }))
    }
    terminate() {
      this.frame.remove()
    }
  }
}

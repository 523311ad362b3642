"""HTML trees and their repair before they are written as Markdown."""
